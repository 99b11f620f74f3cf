{{- define "llama-halo.operator" -}}
{{ printf "%s-operator" (.Release.Name | trunc 54 | trimSuffix "-") }}
{{- end }}

{{- define "llama-halo.nodeAgent" -}}
{{ printf "%s-node-agent" (.Release.Name | trunc 52 | trimSuffix "-") }}
{{- end }}

{{- define "llama-halo.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
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

{{- /* Egress rules: any address but those where clouds give out credentials to whoever asks. NodeLocal DNSCache
is link-local, too, so not the whole range. */}}
{{- define "llama-halo.anywhere" -}}
- to:
    - namespaceSelector: {}
    - ipBlock:
        cidr: 0.0.0.0/0
        except: [169.254.169.254/32, 169.254.170.2/32, 100.100.100.200/32]
    - ipBlock:
        cidr: "::/0"
        except: ["fd00:ec2::254/128"]
{{- end }}
