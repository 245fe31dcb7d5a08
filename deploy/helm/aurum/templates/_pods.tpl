{{/* What every pod has: (dict "root" $ "component" "gateway" "user" 10001 "values" …). */}}
{{- define "aurum.pod" -}}
# each service of a release named aurum would become variables AURUM_…, which the gateway refuses
enableServiceLinks: false
automountServiceAccountToken: false
serviceAccountName: {{ include "aurum.name" .root }}-{{ .component }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user }}
  runAsGroup: {{ .user }}
  fsGroup: {{ .user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  {{- range .root.Values.spread }}
  - topologyKey: {{ .topologyKey }}
    maxSkew: {{ .maxSkew }}
    whenUnsatisfiable: {{ .whenUnsatisfiable }}
    # zones whose nodes these pods do not tolerate, such as those of GPUs, count for nothing
    nodeTaintsPolicy: Honor
    labelSelector:
      matchLabels:
        {{- include "aurum.selector" $ | nindent 8 }}
    # old and new pods of a rollout are spread apart from each other
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}

{{/* What every container may do: nothing but write its volumes. */}}
{{- define "aurum.container" -}}
imagePullPolicy: {{ .Values.images.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* Annotations that replace the pods when the settings change. */}}
{{- define "aurum.checksums" -}}
checksum/settings: {{ include (print .Template.BasePath "/settings.yaml") . | sha256sum }}
{{- end }}

{{/* Fills the model repository of one pod: (dict "root" $ "gpu" true/false). */}}
{{- define "aurum.modelsInit" -}}
- name: models
  image: {{ include "aurum.image" (dict "root" .root "image" .root.Values.images.cpu) }}
  {{- include "aurum.container" .root | nindent 2 }}
  command: [/bin/sh, -eu, -c]
  args:
    - |
      {{- include "aurum.modelsScript" . | nindent 6 }}
  env:
    - name: AURUM_HOME
      value: /tmp/aurum
    - name: AURUM_MODEL_REPOSITORY
      value: /models
    {{- with .root.Values.models.mirror }}
    - name: AURUM_MODEL_MIRROR
      value: {{ . | quote }}
    {{- end }}
  resources:
    {{- toYaml .root.Values.models.resources | nindent 4 }}
  volumeMounts:
    - name: models
      mountPath: /models
    - name: temporary
      mountPath: /tmp
{{- end }}

{{- define "aurum.modelsScript" -}}
# one stage after the other: a stage that is there may hold newer versions and stays as it is
mkdir -p /tmp/aurum
for stage in /opt/aurum/model_repository/*; do
    name="${stage##*/}"
    [ -e "/models/$name" ] && continue
    # another pod may do the same to a shared volume at the same time: the first one wins
    copy="/models/.$name.$HOSTNAME"
    rm -rf "$copy"
    cp -r "$stage" "$copy"
    mv -T -n "$copy" "/models/$name" 2>/dev/null || true
    rm -rf "$copy"
done
{{- if eq .root.Values.models.source "image" }}
{{- range .root.Values.models.packs }}
aurum models pull {{ . }} --accept-license --wait 0
{{- end }}
{{- end }}
{{- if .gpu }}
# adds <stage>/configs/<variant>.pbtxt, one of which --model-config-name chooses
aurum models optimise --gpu /tmp/gpu
cp -r /tmp/gpu/. /models/
{{- end }}
{{- end }}

{{/* Volume with the models of a pod. */}}
{{- define "aurum.modelsVolume" -}}
- name: models
  {{- if eq .Values.models.source "claim" }}
  persistentVolumeClaim:
    claimName: {{ .Values.models.claim.existing | default (printf "%s-models" (include "aurum.name" .)) }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ .Values.models.sizeLimit }}
  {{- end }}
{{- end }}

{{/* Volumes of a pod with Aurum's own code: (dict "root" $ "values" …). */}}
{{- define "aurum.volumes" -}}
{{ include "aurum.modelsVolume" .root }}
- name: home
  {{- if .root.Values.home.shared }}
  persistentVolumeClaim:
    claimName: {{ .root.Values.home.existingClaim | default (printf "%s-home" (include "aurum.name" .root)) }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ .root.Values.home.sizeLimit }}
  {{- end }}
- name: temporary
  emptyDir:
    sizeLimit: {{ .root.Values.home.temporarySizeLimit }}
- name: keys
  secret:
    secretName: {{ .root.Values.keys.existingSecret | default (printf "%s-keys" (include "aurum.name" .root)) }}
    # the pods' group reads it
    defaultMode: 0440
    items:
      {{- if .pepper }}
      - {key: api-keys.pepper, path: api-keys.pepper}
      {{- end }}
      - {key: storage.key, path: storage.key}
      - {key: audit.key, path: audit.key}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- include "aurum.secrets" .root | nindent 6 }}
{{- with .values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Mounts of a container with Aurum's own code: (dict "values" … "writesModels" bool). */}}
{{- define "aurum.mounts" -}}
- name: models
  mountPath: /models
  readOnly: {{ not .writesModels }}
- name: home
  mountPath: /var/lib/aurum
- name: temporary
  mountPath: /tmp
- name: keys
  mountPath: /run/aurum/keys
  readOnly: true
{{ include "aurum.secretsMount" . }}
{{- with .values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}
