{{/* What the controller reads, NEVA_OPERATOR_CONFIG. */}}
{{- define "neva-batch.operatorConfig" -}}
workerImage: {{ include "neva-batch.workerImage" . | quote }}
controllerImage: {{ include "neva-batch.controllerImage" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
imagePullSecrets:
  {{- range .Values.image.pullSecrets }}
  - name: {{ . }}
  {{- else }} []
  {{- end }}
workerServiceAccount: {{ include "neva-batch.jobAccount" (list . "worker") | default nil | toJson }}
finishServiceAccount: {{ include "neva-batch.jobAccount" (list . "finish") | default nil | toJson }}
redis:
  secretName: {{ include "neva-batch.redisSecret" . | quote }}
  secretKey: {{ include "neva-batch.redisSecretKey" . | quote }}
  caConfigMap: {{ include "neva-batch.caConfigMap" .Values.redis.caConfigMap }}
storage:
  secretName: {{ .Values.storage.existingSecret | default nil | toJson }}
  endpointUrl: {{ .Values.storage.endpointUrl | default nil | toJson }}
  region: {{ .Values.storage.region | default nil | toJson }}
  caConfigMap: {{ include "neva-batch.caConfigMap" .Values.storage.caConfigMap }}
namespaces: {{ .Values.controller.namespaces | toJson }}
leaderElection:
  enabled: {{ .Values.controller.leaderElection }}
  leaseName: {{ include "neva-batch.part" (list . "controller") }}
  leaseNamespace: {{ .Release.Namespace }}
statusIntervalSeconds: {{ int64 .Values.controller.statusIntervalSeconds }}
workerDefaults:
  {{- include "neva-batch.podDefaults" .Values.worker | nindent 2 }}
finishDefaults:
  {{- include "neva-batch.podDefaults" .Values.finish | nindent 2 }}
cluster:
  kueue: {{ .Values.kueue.enabled }}
healthPort: 8080
metricsPort: 9090
podMetricsPort: {{ ternary (int .Values.metrics.pods.port) "null" .Values.metrics.pods.enabled }}
{{- end -}}

{{- define "neva-batch.caConfigMap" -}}
{{- ternary (dict "name" .name "key" .key | toJson) "null" (not (empty .name)) -}}
{{- end -}}

{{/* podDefaults (values of worker or finish) */}}
{{- define "neva-batch.podDefaults" -}}
resources: {{ .resources | default dict | toJson }}
nodeSelector: {{ .nodeSelector | default dict | toJson }}
tolerations: {{ .tolerations | default list | toJson }}
affinity: {{ .affinity | default nil | toJson }}
priorityClassName: {{ .priorityClassName | default nil | toJson }}
runtimeClassName: {{ .runtimeClassName | default nil | toJson }}
annotations: {{ .podAnnotations | default dict | toJson }}
labels: {{ .podLabels | default dict | toJson }}
env: {{ .extraEnv | default list | toJson }}
envFrom: {{ .extraEnvFrom | default list | toJson }}
volumes: {{ .extraVolumes | default list | toJson }}
volumeMounts: {{ .extraVolumeMounts | default list | toJson }}
cacheVolume: {{ .cacheVolume | default (dict "emptyDir" dict) | toJson }}
{{- end -}}
