{{/* A shard's pod. Takes root, name and shard. */}}
{{- define "emotiond.pod" -}}
{{- $values := .root.Values -}}
{{- $secrets := $values.secrets -}}
serviceAccountName: {{ include "emotiond.serviceAccountName" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
securityContext:
  runAsNonRoot: true
  seccompProfile: {type: RuntimeDefault}
  {{- with $values.podSecurityContext }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- if and $values.gpu.enabled $values.gpu.runtimeClassName }}
runtimeClassName: {{ $values.gpu.runtimeClassName }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
tolerations:
  {{- range list "not-ready" "unreachable" }}
  - key: node.kubernetes.io/{{ . }}
    operator: Exists
    effect: NoExecute
    tolerationSeconds: {{ $values.nodeLossSeconds }}
  {{- end }}
  {{- with $values.tolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
topologySpreadConstraints:
  {{- if $values.topologySpreadConstraints }}
  {{- toYaml $values.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "emotiond.selectorLabels" .root | nindent 8 }}
  {{- end }}
containers:
  - name: emotiond
    image: {{ include "emotiond.image" .root | quote }}
    imagePullPolicy: {{ $values.image.pullPolicy }}
    args: [run, -c, /etc/emotiond/emotiond.yaml]
    env:
      - name: EMOTIOND_INSTANCE
        value: {{ .name }}
      - name: EMOTIOND_SHARD__INDEX
        value: {{ .shard | quote }}
      - name: EMOTIOND_SHARD__COUNT
        value: {{ int $values.shards | quote }}
      - name: HOME
        value: /tmp
      {{- with $values.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- with $values.extraEnvFrom }}
    envFrom:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    ports:
      - name: http
        containerPort: 9470
        protocol: TCP
    {{- range $probe, $path := dict "startupProbe" "/healthz" "livenessProbe" "/healthz" "readinessProbe" "/readyz" }}
    {{ $probe }}:
      httpGet:
        path: {{ $path }}
        port: http
      {{- toYaml (get $values $probe) | nindent 6 }}
    {{- end }}
    resources:
      {{- $resources := deepCopy $values.resources }}
      {{- if $values.gpu.enabled }}
      {{- $_ := set $resources.limits $values.gpu.resource 1 }}
      {{- end }}
      {{- $disk := "ephemeral-storage" }}
      {{- if not (or $values.spool.persistence.enabled (hasKey $resources.requests $disk) (hasKey $resources.limits $disk)) }}
      {{- $mebibytes := divf (include "emotiond.bytes" $values.spool.size) 1048576 | ceil | int64 }}
      {{- $_ := set $resources.requests $disk $values.spool.size }}
      {{- $_ := set $resources.limits $disk (printf "%dMi" (add $mebibytes 256)) }}   {{- /* /tmp and the log beside it */}}
      {{- end }}
      {{- toYaml $resources | nindent 6 }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop: [ALL]
    terminationMessagePolicy: FallbackToLogsOnError
    volumeMounts:
      - name: config
        mountPath: /etc/emotiond
        readOnly: true
      - name: spool
        mountPath: /var/lib/emotiond
      - name: tmp
        mountPath: /tmp
      {{- range $name := list "redis" "http" "cameras" }}
      {{- if (get $secrets $name).existingSecret }}
      - name: secret-{{ $name }}
        mountPath: /run/secrets/emotiond/{{ $name }}
        readOnly: true
      {{- end }}
      {{- end }}
      {{- with $values.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  - name: config
    configMap:
      name: {{ include "emotiond.fullname" .root }}
  - name: spool
    {{- if $values.spool.persistence.enabled }}
    persistentVolumeClaim:
      claimName: {{ .name }}-spool
    {{- else }}
    emptyDir:
      sizeLimit: {{ $values.spool.size }}
    {{- end }}
  - name: tmp
    emptyDir:
      sizeLimit: 64Mi
  {{- range $name, $file := dict "redis" "password" "http" "token" "cameras" "" }}
  {{- with get $secrets $name }}
  {{- if .existingSecret }}
  - name: secret-{{ $name }}
    secret:
      secretName: {{ .existingSecret }}
      defaultMode: 0440
      {{- if $file }}
      items:
        - key: {{ .key }}
          path: {{ $file }}
      {{- end }}
  {{- end }}
  {{- end }}
  {{- end }}
  {{- with $values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
