{{/* Helm looks every kind up before it installs anything, so a first install can't bring a kind
     and an object of it: `true` unless this is such an install. */}}
{{- define "neva-batch.dropFoldersPossible" -}}
{{- if or .Release.IsUpgrade (not .Values.crds.install) (.Capabilities.APIVersions.Has "neva-batch.dev/v1alpha1/DropFolder") -}}
true
{{- end -}}
{{- end -}}
