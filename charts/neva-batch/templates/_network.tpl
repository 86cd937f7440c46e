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

{{/* urlPort (the value's name, a URL): the port that it leads to; empty when that is not to be seen in it. */}}
{{- define "neva-batch.urlPort" -}}
{{- $start := index . 1 | regexFind "^(?i:https?)://[^/?#]*" -}}
{{- with regexFind ":[0-9]+$" $start -}}
{{- $port := trimPrefix ":" . | atoi -}}
{{- if or (lt $port 1) (gt $port 65535) -}}
{{- fail (printf "%s: its port %s is none; ports are 1 to 65535" (index $ 0) (trimPrefix ":" .)) -}}
{{- end -}}
{{- $port -}}
{{- else -}}
{{- get (dict "http" "80" "https" "443") (regexFind "^[a-z]*" (lower $start)) -}}
{{- end -}}
{{- end -}}

{{/* storageEgress: the configured ports and the one in the endpoint's URL. */}}
{{- define "neva-batch.storageEgress" -}}
{{- $ports := .Values.networkPolicy.storagePorts -}}
{{- with .Values.storage.endpointUrl -}}
{{- $ports = append $ports (include "neva-batch.urlPort" (list "storage.endpointUrl" .)) -}}
{{- end -}}
- ports: {{ include "neva-batch.tcpPorts" $ports }}
{{- end -}}

{{/* tracingEgress: to the collector that the jobs' pods are told to send their traces to. */}}
{{- define "neva-batch.tracingEgress" -}}
{{- $ports := list -}}
{{- range concat (.Values.worker.extraEnv | default list) (.Values.finish.extraEnv | default list) -}}
{{- if and .value (has .name (list "OTEL_EXPORTER_OTLP_ENDPOINT" "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")) -}}
{{- with include "neva-batch.urlPort" (list .name (toString .value)) -}}
{{- $ports = append $ports . -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with $ports }}
- ports: {{ include "neva-batch.tcpPorts" . }}
{{- end }}
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
