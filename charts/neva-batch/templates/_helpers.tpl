{{/* labels (list $ component): of an object. */}}
{{- define "neva-batch.labels" -}}
{{- $ctx := index . 0 -}}
{{ include "neva-batch.selector" . }}
app.kubernetes.io/version: {{ $ctx.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $ctx.Release.Service }}
helm.sh/chart: {{ include "neva-batch.cut" (list (printf "%s-%s" $ctx.Chart.Name ($ctx.Chart.Version | replace "+" "_")) 63) }}
{{- with $ctx.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* selector (list $ component): what never changes, and so may stand in selectors. */}}
{{- define "neva-batch.selector" -}}
{{- $ctx := index . 0 -}}
app.kubernetes.io/name: {{ include "neva-batch.name" $ctx }}
app.kubernetes.io/instance: {{ $ctx.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* jobSelector: the pods of jobs, of whatever release. */}}
{{- define "neva-batch.jobSelector" -}}
app.kubernetes.io/name: neva-batch
app.kubernetes.io/managed-by: neva-batch-controller
{{- end -}}

{{/* metadata (list $ name namespace component): of an object; no namespace for cluster objects. */}}
{{- define "neva-batch.metadata" -}}
{{- $ctx := index . 0 -}}
name: {{ index . 1 }}
{{- with index . 2 }}
namespace: {{ . }}
{{- end }}
labels:
  {{- include "neva-batch.labels" (list $ctx (index . 3)) | nindent 2 }}
{{- with $ctx.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* image (list image registry defaultTag): one that can be pulled. */}}
{{- define "neva-batch.image" -}}
{{- $image := index . 0 -}}
{{- $name := $image.repository -}}
{{- with index . 1 -}}
{{- $name = printf "%s/%s" (trimSuffix "/" .) $name -}}
{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name ($image.tag | default (index . 2)) -}}
{{- end -}}
{{- end -}}

{{- define "neva-batch.controllerImage" -}}
{{- include "neva-batch.image" (list .Values.image.controller .Values.image.registry .Chart.AppVersion) -}}
{{- end -}}

{{- define "neva-batch.workerImage" -}}
{{- include "neva-batch.image" (list .Values.image.worker .Values.image.registry .Chart.AppVersion) -}}
{{- end -}}

{{- define "neva-batch.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* What PodSecurity's level `restricted` asks of a pod, and of a container. */}}
{{- define "neva-batch.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "neva-batch.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* placement (values): where pods go. */}}
{{- define "neva-batch.placement" -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" "runtimeClassName" -}}
{{- with get $ $key }}
{{ toYaml (dict $key .) }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* jobNamespaces: JSON list of the namespaces that get what a job's pods need. */}}
{{- define "neva-batch.jobNamespaces" -}}
{{- .Values.jobNamespaces | default .Values.controller.namespaces | default (list .Release.Namespace) | uniq | toJson -}}
{{- end -}}

{{/* nightlyNamespaces: JSON list of the namespaces with a nightly job. */}}
{{- define "neva-batch.nightlyNamespaces" -}}
{{- $names := list -}}
{{- range .Values.nightly -}}
{{- $names = append $names (.namespace | default $.Release.Namespace) -}}
{{- end -}}
{{- $names | uniq | sortAlpha | toJson -}}
{{- end -}}

{{/* uiNamespaces: JSON list of the namespaces that the live view shows; empty is all of them. */}}
{{- define "neva-batch.uiNamespaces" -}}
{{- .Values.ui.namespaces | default .Values.controller.namespaces | uniq | toJson -}}
{{- end -}}

{{/* storageEnv: the way to object storage, for a container of the chart's own. */}}
{{- define "neva-batch.storageEnv" -}}
{{- with .Values.storage.endpointUrl }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- with .Values.storage.region }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- if .Values.storage.caConfigMap.name }}
- name: AWS_CA_BUNDLE
  value: /etc/neva/storage-ca/ca.crt
{{- end }}
{{- end -}}

{{- define "neva-batch.storageEnvFrom" -}}
{{- with .Values.storage.existingSecret }}
- secretRef:
    name: {{ . }}
{{- end }}
{{- end -}}

{{- define "neva-batch.storageMounts" -}}
{{- if .Values.storage.caConfigMap.name }}
- name: storage-ca
  mountPath: /etc/neva/storage-ca
  readOnly: true
{{- end }}
{{- end -}}

{{- define "neva-batch.storageVolumes" -}}
{{- with .Values.storage.caConfigMap }}
{{- if .name }}
- name: storage-ca
  configMap:
    name: {{ .name }}
    items:
      - {key: {{ .key }}, path: ca.crt}
{{- end }}
{{- end }}
{{- end -}}
