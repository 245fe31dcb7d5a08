{{/* Variables of gateway, workers and tools: (dict "root" $ "pool" "cpu"). Others are in the
     ConfigMap; a variable here wins over one there. */}}
{{- define "aurum.env" -}}
{{- $values := .root.Values -}}
{{- $name := include "aurum.name" .root -}}
- name: AURUM_TRITON_GRPC_URL
  value: {{ include "aurum.tritonService" . }}:8001
- name: AURUM_TRITON_HTTP_URL
  value: http://{{ include "aurum.tritonService" . }}:8000
{{- if $values.postgres.enabled }}
- name: DATABASE_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ $values.postgres.existingSecret | default (printf "%s-postgres" $name) }}
      key: password
- name: AURUM_DATABASE_URL
  value: postgresql://aurum:$(DATABASE_PASSWORD)@{{ $name }}-postgres:5432/aurum
{{- else }}
- name: AURUM_DATABASE_URL
  valueFrom:
    secretKeyRef:
      {{- toYaml $values.postgres.urlSecret | nindent 6 }}
{{- end }}
{{- if $values.redis.enabled }}
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ $values.redis.existingSecret | default (printf "%s-redis" $name) }}
      key: password
- name: AURUM_REDIS_URL
  value: redis://:$(REDIS_PASSWORD)@{{ $name }}-redis:6379/0
{{- else if $values.redis.urlSecret.name }}
- name: AURUM_REDIS_URL
  valueFrom:
    secretKeyRef:
      {{- toYaml $values.redis.urlSecret | nindent 6 }}
{{- end }}
{{- if $values.qdrant.enabled }}
- name: AURUM_QDRANT_URL
  value: http://{{ $name }}-qdrant:6333
- name: AURUM_QDRANT_API_KEY
  valueFrom:
    secretKeyRef:
      name: {{ $values.qdrant.existingSecret | default (printf "%s-qdrant" $name) }}
      key: api-key
{{- else }}
- name: AURUM_QDRANT_URL
  value: {{ $values.qdrant.url | quote }}
{{- if $values.qdrant.apiKeySecret.name }}
- name: AURUM_QDRANT_API_KEY
  valueFrom:
    secretKeyRef:
      {{- toYaml $values.qdrant.apiKeySecret | nindent 6 }}
{{- end }}
{{- end }}
{{- if and $values.objectStore.url $values.objectStore.secret.name }}
- name: AURUM_OBJECT_STORE_SECRET
  valueFrom:
    secretKeyRef:
      {{- toYaml $values.objectStore.secret | nindent 6 }}
{{- end }}
{{- if $values.webhooks.secret.name }}
- name: AURUM_WEBHOOK_SECRET
  valueFrom:
    secretKeyRef:
      {{- toYaml $values.webhooks.secret | nindent 6 }}
{{- end }}
{{- end }}
