{{/* Rules between values, which a schema can't say. Included by the controller's Deployment. */}}
{{- define "neva-batch.checks" -}}
{{- $values := .Values -}}
{{- $watched := .Values.controller.namespaces -}}
{{- if and .Values.valkey.enabled .Values.redis.existingSecret -}}
{{- fail "redis.existingSecret is given, so valkey.enabled must be false: there is one broker" -}}
{{- end -}}
{{- if not (or .Values.valkey.enabled .Values.redis.existingSecret) -}}
{{- fail "no broker: valkey.enabled is false and redis.existingSecret is empty" -}}
{{- end -}}
{{- if and (gt (int .Values.controller.replicas) 1) (not .Values.controller.leaderElection) -}}
{{- fail "controller.replicas above 1 needs controller.leaderElection" -}}
{{- end -}}
{{- range $kind := list "controller" "worker" -}}
{{- if and (eq (get (get $values.image $kind) "tag") "latest") (not $values.image.allowLatest) -}}
{{- fail (printf "image.%s.tag: \"latest\" names no version; two pods of one job could differ (image.allowLatest takes it)" $kind) -}}
{{- end -}}
{{- end -}}
{{- range $key, $_ := .Values.commonLabels -}}
{{- if regexMatch "^(app[.]kubernetes[.]io|helm[.]sh|neva-batch[.]dev)/" $key -}}
{{- fail (printf "commonLabels: %q is the chart's own" $key) -}}
{{- end -}}
{{- end -}}
{{- if $watched -}}
{{- range .Values.jobNamespaces -}}
{{- if not (has . $watched) -}}
{{- fail (printf "jobNamespaces: %q is not among controller.namespaces, so its jobs would never run" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ui.enabled .Values.ui.ingress.enabled .Values.networkPolicy.enabled (not .Values.networkPolicy.uiFrom) -}}
{{- fail "ui.ingress.enabled with networkPolicy.enabled needs networkPolicy.uiFrom: no Ingress controller could reach the live view" -}}
{{- end -}}
{{- if and .Values.ui.enabled .Values.ui.ingress.enabled -}}
{{- with .Values.ui.ingress -}}
{{- if not .host -}}
{{- fail "ui.ingress.enabled needs ui.ingress.host" -}}
{{- end -}}
{{- if not (or .annotations .withoutAuthentication) -}}
{{- fail "ui.ingress: the page asks nobody for a password; set ui.ingress.annotations to those that make your Ingress controller ask (README, Live view), or ui.ingress.withoutAuthentication" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $kind := list "nightly" "dropFolders" -}}
{{- $seen := dict -}}
{{- range get $values $kind -}}
{{- $namespace := .namespace | default $.Release.Namespace -}}
{{- if and $watched (not (has $namespace $watched)) -}}
{{- fail (printf "%s %q: its namespace %q is not among controller.namespaces" $kind .name $namespace) -}}
{{- end -}}
{{- $id := printf "%s/%s" $namespace .name -}}
{{- if hasKey $seen $id -}}
{{- fail (printf "%s: %q is there twice" $kind .name) -}}
{{- end -}}
{{- $_ := set $seen $id true -}}
{{- end -}}
{{- end -}}
{{- end -}}
