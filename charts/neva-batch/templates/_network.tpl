{{/* ports (list of numbers): as JSON of a NetworkPolicy's ports. */}}
{{- define "neva-batch.tcpPorts" -}}
{{- $ports := list -}}
{{- range . -}}
{{- $ports = append $ports (dict "protocol" "TCP" "port" (int .)) -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}

{{- define "neva-batch.dnsEgress" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end -}}

{{- define "neva-batch.apiServerEgress" -}}
- ports: {{ include "neva-batch.tcpPorts" .Values.networkPolicy.apiServerPorts }}
{{- end -}}

{{/* storageEgress: the configured ports and the one in the endpoint's URL. */}}
{{- define "neva-batch.storageEgress" -}}
{{- $ports := .Values.networkPolicy.storagePorts -}}
{{- with .Values.storage.endpointUrl -}}
{{- $host := (urlParse .).host -}}
{{- if regexMatch ":[0-9]+$" $host -}}
{{- $ports = append $ports (regexFind "[0-9]+$" $host | int) -}}
{{- else if hasPrefix "http:" . -}}
{{- $ports = append $ports 80 -}}
{{- end -}}
{{- end -}}
- ports: {{ include "neva-batch.tcpPorts" $ports }}
{{- end -}}

{{- define "neva-batch.redisEgress" -}}
{{- if .Values.valkey.enabled -}}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .Release.Namespace }}
      podSelector:
        matchLabels:
          {{- include "neva-batch.selector" (list . "valkey") | nindent 10 }}
  ports: [{protocol: TCP, port: 6379}]
{{- else -}}
- ports: {{ include "neva-batch.tcpPorts" .Values.networkPolicy.redisPorts }}
{{- end -}}
{{- end -}}

{{- define "neva-batch.extraEgress" -}}
{{- with .Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end -}}
