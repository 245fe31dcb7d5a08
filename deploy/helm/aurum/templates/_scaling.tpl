{{/* Seconds that a stopping gateway may take. */}}
{{- define "aurum.gatewayGrace" -}}
{{- $request := index .Values.settings "AURUM_REQUEST_TIMEOUT_SECONDS" | default 10 | float64 -}}
{{ addf .Values.gateway.drainSeconds $request 2 10 | ceil | int }}
{{- end }}

{{/* Fewest pods of a component: (dict "root" $ "values" … "scales" bool). */}}
{{- define "aurum.fewest" -}}
{{- if .scales }}{{ .values.autoscaling.min }}{{ else }}{{ .values.replicas }}{{ end -}}
{{- end }}

{{/* Values of a Triton pool over those of all pools: (dict "root" $ "pool" "cpu"), as YAML. */}}
{{- define "aurum.pool" -}}
{{- mergeOverwrite (deepCopy .root.Values.triton.defaults) (index .root.Values.triton.pools .pool) | toYaml -}}
{{- end }}

{{/* Whether a Triton pool is scaled, as "true" or "": by processor time only where it has no GPU. */}}
{{- define "aurum.poolScales" -}}
{{- $kind := .root.Values.autoscaling.kind -}}
{{- $pool := include "aurum.pool" . | fromYaml -}}
{{- if or (eq $kind "keda") (and (eq $kind "hpa") (eq (int $pool.gpus) 0)) }}true{{ end -}}
{{- end }}
