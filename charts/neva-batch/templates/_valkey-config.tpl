{{- define "neva-batch.valkeyConfig" -}}
port 6379
bind * -::*
dir /data
maxmemory {{ .Values.valkey.maxMemory }}
# A queue must never lose messages to make room.
maxmemory-policy noeviction
save ""
{{- if .Values.valkey.persistence.enabled }}
appendonly yes
appendfsync everysec
{{- else }}
appendonly no
{{- end }}
tcp-keepalive 60
{{- end -}}
