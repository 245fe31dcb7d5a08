{{/* Variables of gateway, workers and tools: (dict "root" $ "pool" "cpu"). Others are in the
     ConfigMap; a variable here wins over one there. Secrets are files: aurum.secrets. */}}
{{- define "aurum.env" -}}
{{- $values := .root.Values -}}
- name: AURUM_TRITON_GRPC_URL
  value: {{ include "aurum.tritonService" . }}:8001
- name: AURUM_TRITON_HTTP_URL
  value: http://{{ include "aurum.tritonService" . }}:8000
- name: AURUM_QDRANT_URL
{{- if $values.qdrant.enabled }}
  value: http://{{ include "aurum.name" .root }}-qdrant:6333
{{- else }}
  value: {{ $values.qdrant.url | quote }}
{{- end }}
{{- end }}

{{/* Files of AURUM_SECRETS_FOLDER, named as variables, as sources of a projected volume. They are no
     variables, which `kubectl exec … env`, crash reports and child processes would show. */}}
{{- define "aurum.secrets" -}}
{{- $values := .Values -}}
{{- $name := include "aurum.name" . -}}
{{- $files := list -}}
{{- $made := printf "%s-postgres" $name -}}
{{- if $values.postgres.enabled -}}
{{- $files = append $files (list "AURUM_DATABASE_URL" ($values.postgres.existingSecret | default $made) "url") -}}
{{- else -}}
{{- $files = append $files (list "AURUM_DATABASE_URL" $values.postgres.urlSecret.name $values.postgres.urlSecret.key) -}}
{{- end -}}
{{- $made = printf "%s-redis" $name -}}
{{- if $values.redis.enabled -}}
{{- $files = append $files (list "AURUM_REDIS_URL" ($values.redis.existingSecret | default $made) "url") -}}
{{- else if $values.redis.urlSecret.name -}}
{{- $files = append $files (list "AURUM_REDIS_URL" $values.redis.urlSecret.name $values.redis.urlSecret.key) -}}
{{- end -}}
{{- $made = printf "%s-qdrant" $name -}}
{{- if $values.qdrant.enabled -}}
{{- $files = append $files (list "AURUM_QDRANT_API_KEY" ($values.qdrant.existingSecret | default $made) "api-key") -}}
{{- else if $values.qdrant.apiKeySecret.name -}}
{{- $files = append $files (list "AURUM_QDRANT_API_KEY" $values.qdrant.apiKeySecret.name $values.qdrant.apiKeySecret.key) -}}
{{- end -}}
{{- if and $values.objectStore.url $values.objectStore.secret.name -}}
{{- $files = append $files (list "AURUM_OBJECT_STORE_SECRET" $values.objectStore.secret.name $values.objectStore.secret.key) -}}
{{- end -}}
{{- if $values.webhooks.secret.name -}}
{{- $files = append $files (list "AURUM_WEBHOOK_SECRET" $values.webhooks.secret.name $values.webhooks.secret.key) -}}
{{- end -}}
{{- range $files }}
- secret:
    name: {{ index . 1 }}
    items:
      - {key: {{ index . 2 | quote }}, path: {{ index . 0 }}}
{{- end }}
{{- end }}

{{/* The Secret of a store in the release, as a volume: (dict "secret" "name" "key" "password"). */}}
{{- define "aurum.storeSecret" -}}
- name: secrets
  secret:
    secretName: {{ .secret }}
    # the pods' group reads it
    defaultMode: 0440
    items:
      - {key: {{ .key }}, path: {{ .key }}}
{{- end }}

{{- define "aurum.secretsMount" -}}
# not below /run/secrets: there clouds mount the tokens of service accounts
- name: secrets
  mountPath: /run/aurum/secrets
  readOnly: true
{{- end }}
