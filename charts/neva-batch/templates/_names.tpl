{{/* Names. Every name is cut with a digest, so that long names that differ stay different. */}}

{{/* cut (list name max): the name, or its beginning and eight digits of its digest. */}}
{{- define "neva-batch.cut" -}}
{{- $name := index . 0 -}}
{{- $max := int (index . 1) -}}
{{- if le (len $name) $max -}}
{{- $name -}}
{{- else -}}
{{- printf "%s-%s" (trunc (int (sub $max 9)) $name | trimSuffix "-") (sha256sum $name | trunc 8) -}}
{{- end -}}
{{- end -}}

{{/* The chart's name as a label. The children of jobs bear it, too. */}}
{{- define "neva-batch.name" -}}
{{- include "neva-batch.cut" (list (default .Chart.Name .Values.nameOverride) 40) -}}
{{- end -}}

{{/* The start of all names, 40 characters at most. */}}
{{- define "neva-batch.fullname" -}}
{{- $chart := default .Chart.Name .Values.nameOverride -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $name = ternary .Release.Name (printf "%s-%s" .Release.Name $chart) (contains $chart .Release.Name) -}}
{{- end -}}
{{- include "neva-batch.cut" (list $name 40) -}}
{{- end -}}

{{/* part (list $ suffix): the name of a part in the release's namespace. */}}
{{- define "neva-batch.part" -}}
{{- include "neva-batch.cut" (list (printf "%s-%s" (include "neva-batch.fullname" (index . 0)) (index . 1)) 63) -}}
{{- end -}}

{{/* clusterPart (list $ suffix): the name of an object without namespace. Two releases may have
     one name in two namespaces, so the namespace is in it. */}}
{{- define "neva-batch.clusterPart" -}}
{{- $ctx := index . 0 -}}
{{- include "neva-batch.cut" (list (printf "%s-%s-%s" (include "neva-batch.fullname" $ctx) $ctx.Release.Namespace (index . 1)) 63) -}}
{{- end -}}

{{/* tenantPart (list $ suffix namespace): the name of an object in any namespace; outside the
     release's own it says which release it belongs to. */}}
{{- define "neva-batch.tenantPart" -}}
{{- $ctx := index . 0 -}}
{{- if eq (index . 2) $ctx.Release.Namespace -}}
{{- include "neva-batch.part" (list $ctx (index . 1)) -}}
{{- else -}}
{{- include "neva-batch.clusterPart" (list $ctx (index . 1)) -}}
{{- end -}}
{{- end -}}

{{/* jobAccount (list $ "worker"|"finish"): the account of a job's pods, one name in every
     namespace; empty is the namespace's own default. */}}
{{- define "neva-batch.jobAccount" -}}
{{- $ctx := index . 0 -}}
{{- $account := (index $ctx.Values (index . 1)).serviceAccount -}}
{{- if $account.name -}}
{{- $account.name -}}
{{- else if $account.create -}}
{{- $elsewhere := without (include "neva-batch.jobNamespaces" $ctx | fromJsonArray) $ctx.Release.Namespace -}}
{{- if $elsewhere -}}
{{- include "neva-batch.clusterPart" (list $ctx (index . 1)) -}}
{{- else -}}
{{- include "neva-batch.part" (list $ctx (index . 1)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "neva-batch.controllerAccount" -}}
{{- .Values.controller.serviceAccount.name | default (include "neva-batch.part" (list . "controller")) -}}
{{- end -}}

{{- define "neva-batch.nightlyAccount" -}}
{{- .Values.nightlyPods.serviceAccount.name | default (include "neva-batch.clusterPart" (list . "nightly")) -}}
{{- end -}}

{{- define "neva-batch.uiAccount" -}}
{{- .Values.ui.serviceAccount.name | default (include "neva-batch.part" (list . "ui")) -}}
{{- end -}}

{{/* nightlyName (list $ name): a CronJob's; Kubernetes adds eleven characters for its Jobs. */}}
{{- define "neva-batch.nightlyName" -}}
{{- include "neva-batch.cut" (list (printf "%s-%s" (include "neva-batch.fullname" (index . 0)) (index . 1)) 52) -}}
{{- end -}}

{{/* valkeySecret (list $ namespace): the Secret with the bundled Valkey's password and URL. */}}
{{- define "neva-batch.redisSecret" -}}
{{- if .Values.valkey.enabled -}}
{{- .Values.valkey.auth.existingSecret | default (include "neva-batch.clusterPart" (list . "valkey")) -}}
{{- else -}}
{{- .Values.redis.existingSecret -}}
{{- end -}}
{{- end -}}

{{- define "neva-batch.redisSecretKey" -}}
{{- ternary "url" .Values.redis.existingSecretKey .Values.valkey.enabled -}}
{{- end -}}
