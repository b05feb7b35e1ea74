{{- define "headgate.name" -}}
{{- .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 50 characters, so that there is room for "-redis", "-first-token" and the number of a Pod. */}}
{{- define "headgate.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "headgate.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: {{ include "headgate.name" . }}
{{- end -}}

{{/* Takes (list context component). */}}
{{- define "headgate.selector" -}}
{{- $context := index . 0 -}}
app.kubernetes.io/name: {{ include "headgate.name" $context }}
app.kubernetes.io/instance: {{ $context.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "headgate.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{- define "headgate.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "headgate.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* The Secret that has HEADGATE_REDIS_URL under the key "url". */}}
{{- define "headgate.redisSecret" -}}
{{- .Values.redis.existingSecret | default (printf "%s-redis" (include "headgate.fullname" .)) -}}
{{- end -}}

{{- define "headgate.etcdEndpoints" -}}
{{- if .Values.etcd.enabled -}}
{{- $full := include "headgate.fullname" . -}}
{{- $found := list -}}
{{- range $number := until (int .Values.etcd.members) -}}
{{- $found = append $found (printf "http://%s-etcd-%d.%s-etcd:2379" $full $number $full) -}}
{{- end -}}
{{- join "," $found -}}
{{- else -}}
{{- .Values.etcd.endpoints -}}
{{- end -}}
{{- end -}}

{{- define "headgate.scheme" -}}
{{- if .Values.tlsSecret }}HTTPS{{ else }}HTTP{{ end -}}
{{- end -}}

{{/* What every process of Headgate is told, a node or not. */}}
{{- define "headgate.environment" -}}
- name: HEADGATE_CLUSTER
  value: {{ include "headgate.fullname" . | quote }}
- name: HEADGATE_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "headgate.redisSecret" . }}
      key: url
{{- with include "headgate.etcdEndpoints" . }}
- name: HEADGATE_ETCD_ENDPOINTS
  value: {{ . | quote }}
{{- end }}
{{- with .Values.etcd.user }}
- name: HEADGATE_ETCD_USER
  value: {{ . | quote }}
{{- end }}
{{- with .Values.etcd.existingSecret }}
- name: HEADGATE_ETCD_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: password
{{- end }}
{{- if .Values.etcd.tlsSecret }}
- name: HEADGATE_ETCD_CA
  value: /etc/headgate/etcd/ca.crt
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: HEADGATE_{{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{- define "headgate.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "headgate.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}
