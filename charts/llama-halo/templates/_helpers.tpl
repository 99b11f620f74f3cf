{{- define "llama-halo.operator" -}}
{{ printf "%s-operator" (.Release.Name | trunc 54 | trimSuffix "-") }}
{{- end }}

{{- define "llama-halo.nodeAgent" -}}
{{ printf "%s-node-agent" (.Release.Name | trunc 52 | trimSuffix "-") }}
{{- end }}

{{- define "llama-halo.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "llama-halo.labels" -}}
{{ include "llama-halo.selector" . }}
{{ include "llama-halo.about" . }}
{{- end }}

{{- define "llama-halo.about" -}}
app.kubernetes.io/part-of: llama-halo
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "llama-halo.selector" -}}
app.kubernetes.io/name: {{ include "llama-halo.operator" . }}
{{- end }}

{{- define "llama-halo.hardened" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
