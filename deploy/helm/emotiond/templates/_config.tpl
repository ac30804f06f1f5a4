{{/* The bytes of 2Gi, as Kubernetes writes it, or of 2GiB, as the daemon does; 0 for what is neither. */}}
{{- define "emotiond.bytes" -}}
{{- $match := regexFind "^[0-9.]+ ?([kKmMgGtT]i?)?[bB]?$" . -}}
{{- $factors := dict "" 1 "k" 1e3 "m" 1e6 "g" 1e9 "t" 1e12 "ki" 1024 "mi" 1048576 "gi" 1073741824 "ti" 1099511627776 -}}
{{- $unit := regexReplaceAll "^[0-9.]+ ?|[bB]$" $match "" | lower -}}
{{- mulf (float64 (regexFind "^[0-9.]+" $match)) (get $factors $unit) -}}
{{- end -}}

{{/* The daemon's configuration as YAML: the values' own, and what the chart adds. Its keys and types are checked by the
     values' schema, which has the daemon's; here is what depends on the pod. */}}
{{- define "emotiond.config" -}}
{{- $secrets := "/run/secrets/emotiond" -}}
{{- $config := deepCopy .Values.config -}}
{{- range $section := list "redis" "http" "spool" "compute" "streams" -}}
  {{- $_ := set $config $section (default dict (get $config $section)) -}}
{{- end -}}
{{- range $key, $instead := dict "instance" "each shard is named after its Deployment; use fullnameOverride" "shard" "set `shards` to the number of them" -}}
  {{- if hasKey $config $key -}}
    {{- fail (printf "config.%v is set by the chart: %v" $key $instead) -}}
  {{- end -}}
{{- end -}}

{{- if not (hasKey $config "watch_config") -}}
  {{- $_ := set $config "watch_config" true -}}
{{- end -}}

{{- $listen := default "0.0.0.0:9470" $config.http.listen -}}
{{- if not (has $listen (list "0.0.0.0:9470" "[::]:9470")) -}}
  {{- fail (printf "config.http.listen: %v is not where probes and Prometheus look; leave it out, or write [::]:9470 for IPv6" $listen) -}}
{{- end -}}
{{- $_ := set $config.http "listen" $listen -}}

{{- $spool := default "/var/lib/emotiond/spool.db" $config.spool.path -}}
{{- if not (has $spool (list "/var/lib/emotiond/spool.db" "memory")) -}}
  {{- fail (printf "config.spool.path: %v is not on the spool's volume; leave it out, or write memory" $spool) -}}
{{- end -}}
{{- $_ := set $config.spool "path" $spool -}}
{{- $most := default "1GiB" $config.spool.max_bytes -}}
{{- $most = toString (ternary (int64 $most) $most (kindIs "float64" $most)) -}}
{{- if gt (mulf 1.2 (include "emotiond.bytes" $most)) (float64 (include "emotiond.bytes" (toString .Values.spool.size))) -}}
  {{- fail (printf "spool.size: %v has no room for config.spool.max_bytes (%v) and a fifth more; raise the one or lower the other" .Values.spool.size $most) -}}
{{- end -}}

{{- if .Values.gpu.enabled -}}
  {{- if not (has (default "auto" $config.compute.device) (list "auto" "cuda" "cuda:0")) -}}
    {{- fail (printf "config.compute.device: %v leaves the GPU of gpu.enabled idle; leave one of the two out" $config.compute.device) -}}
  {{- end -}}
  {{- $_ := set $config.compute "device" "cuda:0" -}}
{{- end -}}

{{- $environment := list -}}
{{- range .Values.extraEnv -}}{{- $environment = append $environment .name -}}{{- end -}}
{{- range list "EMOTIOND_INSTANCE" "EMOTIOND_SHARD__INDEX" "EMOTIOND_SHARD__COUNT" "EMOTIOND_HTTP__LISTEN" "EMOTIOND_SPOOL__PATH" "EMOTIOND_WATCH_CONFIG" -}}
  {{- if has . $environment -}}
    {{- fail (printf "extraEnv: %v is set by the chart; leave it out" .) -}}
  {{- end -}}
{{- end -}}
{{- $url := default "" $config.redis.url -}}
{{- if not (or $url (has "EMOTIOND_REDIS__URL" $environment) .Values.extraEnvFrom) -}}
  {{- fail "config.redis.url is missing; name a server like redis://redis:6379/0" -}}
{{- else if eq $url "embedded" -}}
  {{- fail "config.redis.url: embedded is a Valkey inside the pod, which nobody else can read; name a server" -}}
{{- else if regexMatch "^[a-z+]+://[^/?#]*:[^/?#]*@|[?&]password=" $url -}}
  {{- fail "config.redis.url carries a password, and a ConfigMap is no place for one; use secrets.redis.existingSecret" -}}
{{- end -}}

{{- if .Values.secrets.redis.existingSecret -}}
  {{- $_ := set $config.redis "password_file" (printf "%v/redis/password" $secrets) -}}
{{- end -}}
{{- if .Values.secrets.http.existingSecret -}}
  {{- $_ := set $config.http "token_file" (printf "%v/http/token" $secrets) -}}
{{- end -}}
{{- $mounted := list -}}
{{- range $name := list "redis" "http" "cameras" -}}
  {{- if (get $.Values.secrets $name).existingSecret -}}{{- $mounted = append $mounted (printf "%v/%v/" $secrets $name) -}}{{- end -}}
{{- end -}}
{{- range .Values.extraVolumeMounts -}}{{- $mounted = append $mounted .mountPath -}}{{- end -}}
{{- $files := list (list "config.redis.password_file" $config.redis.password_file "secrets.redis.existingSecret")
                   (list "config.http.token_file" $config.http.token_file "secrets.http.existingSecret") -}}
{{- range $name, $stream := $config.streams -}}
  {{- if regexMatch "^[a-zA-Z]+://[^/?#]*:[^/?#]*@" $stream.source -}}
    {{- fail (printf "config.streams.%v.source carries a password, and a ConfigMap is no place for one; write username and password_file, with secrets.cameras.existingSecret" $name) -}}
  {{- end -}}
  {{- $files = append $files (list (printf "config.streams.%v.password_file" $name) $stream.password_file "secrets.cameras.existingSecret") -}}
{{- end -}}
{{- range $files -}}
  {{- $key := index . 0 -}}{{- $file := index . 1 -}}{{- $secret := index . 2 -}}
  {{- if $file -}}
    {{- $found := false -}}
    {{- range $mounted -}}{{- if hasPrefix . $file -}}{{- $found = true -}}{{- end -}}{{- end -}}
    {{- if not $found -}}
      {{- fail (printf "%v: no Secret is mounted at %v; name it in %v" $key $file $secret) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}

{{- $added := default "" $config.http.streams_file -}}
{{- if and $added (not (hasPrefix "/var/lib/emotiond/" $added)) -}}
  {{- fail (printf "config.http.streams_file: %v cannot be written; write /var/lib/emotiond/streams.json, on the spool's volume" $added) -}}
{{- else if and $added (not $config.http.token_file) -}}
  {{- fail "config.http.streams_file: who adds streams needs a token; name its Secret in secrets.http.existingSecret" -}}
{{- else if and $added (not .Values.spool.persistence.enabled) -}}
  {{- fail "config.http.streams_file: streams added over HTTP would be lost with the pod; set spool.persistence.enabled" -}}
{{- else if not (or $added $config.streams) -}}
  {{- $_ := set $config "streams" (dict "test-pattern" (dict "source" "lavfi:testsrc2=size=640x360:rate=5")) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}
