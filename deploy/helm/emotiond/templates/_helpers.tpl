{{/* Names: a shard's adds up to four characters, and a label's value has at most 63; long ones keep apart by a hash. */}}
{{- define "emotiond.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := .Values.fullnameOverride -}}
{{- if not $full -}}
{{- $full = ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- end -}}
{{- if gt (len $full) 48 -}}
{{- $full = printf "%s-%s" ($full | trunc 39 | trimSuffix "-") (sha256sum $full | trunc 8) -}}
{{- end -}}
{{- $full -}}
{{- end -}}

{{- define "emotiond.serviceAccountName" -}}
{{- default (ternary (include "emotiond.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "emotiond.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "emotiond.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "emotiond.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "emotiond.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ if .Values.gpu.enabled }}{{ .Values.gpu.tagSuffix }}{{ end }}
{{- end -}}
{{- end -}}

{{/* Prometheus' job: the rules compare the shards of one job, so each release has its own, with the word they know it by. */}}
{{- define "emotiond.job" -}}
{{- $fullname := include "emotiond.fullname" . -}}
{{- ternary $fullname (printf "%s-emotiond" $fullname) (contains "emotiond" $fullname) -}}
{{- end -}}

{{/* What Prometheus' operator scrapes, as an instance that outlives its pod. Takes root and interval. */}}
{{- define "emotiond.endpoint" -}}
port: http
path: /metrics
interval: {{ .interval }}
relabelings:
  - targetLabel: job
    replacement: {{ include "emotiond.job" .root }}
  - sourceLabels: [__meta_kubernetes_namespace, __meta_kubernetes_pod_label_emotiond_shard]
    separator: /
    targetLabel: instance
{{- end -}}
