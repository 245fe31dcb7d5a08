{{/* Name of everything in this release. */}}
{{- define "aurum.name" -}}
{{- if contains "aurum" .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-aurum" .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{/* Labels that select the pods of a component: (dict "root" $ "component" "gateway"). */}}
{{- define "aurum.selector" -}}
app.kubernetes.io/name: aurum
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
aurum/pool: {{ . }}
{{- end }}
{{- end }}

{{/* All labels of a component's objects. */}}
{{- define "aurum.labels" -}}
{{ include "aurum.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: aurum
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* Reference of an image: (dict "root" $ "image" .Values.images.gateway). */}}
{{- define "aurum.image" -}}
{{- $tag := .image.tag | default .root.Chart.AppVersion -}}
{{- with .root.Values.images.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- .image.repository -}}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ $tag }}{{ end -}}
{{- end }}

{{/* Reference of an image of others, which `images.registry` does not hold. */}}
{{- define "aurum.foreignImage" -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end }}

{{/* Service of a Triton pool: (dict "root" $ "pool" "cpu"). */}}
{{- define "aurum.tritonService" -}}
{{ include "aurum.name" .root }}-triton-{{ .pool }}
{{- end }}

{{/* A value of a Secret that stays what it is in the cluster, or a new one:
     (dict "root" $ "secret" "name" "key" "password" "new" "…"). Returns base64. */}}
{{- define "aurum.kept" -}}
{{- $found := lookup "v1" "Secret" .root.Release.Namespace .secret -}}
{{- $old := "" -}}
{{- if $found }}{{ $old = get ($found.data | default dict) .key }}{{ end -}}
{{- $old | default (.new | b64enc) -}}
{{- end }}

{{/* 32 random bytes in hexadecimal digits. */}}
{{- define "aurum.hex" -}}
{{ printf "%x" (randBytes 32 | b64dec) }}
{{- end }}
