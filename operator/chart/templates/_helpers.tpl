{{/* The name of every object. */}}
{{- define "dittofs-operator.fullname" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* What selects the pods. Never changes during the life of a Deployment. */}}
{{- define "dittofs-operator.selector" -}}
app.kubernetes.io/name: dittofs-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "dittofs-operator.labels" -}}
{{ include "dittofs-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Service and Secret of the webhook. */}}
{{- define "dittofs-operator.webhook" -}}
{{ include "dittofs-operator.fullname" . }}-webhook
{{- end }}
{{- define "dittofs-operator.certificate" -}}
{{ include "dittofs-operator.fullname" . }}-webhook-tls
{{- end }}

{{/*
The object of one kind among those that `dittofs-operator manifests` prints, as it is printed. What the operator decides itself (its
roles, its CRD, what its webhook looks at) is written down nowhere else.
*/}}
{{- define "dittofs-operator.generated" -}}
{{- $wanted := .kind }}
{{- range splitList "\n---\n" (.root.Files.Get "files/manifests.yaml") }}
{{- if eq (fromYaml .).kind $wanted }}
{{- . }}
{{- end }}
{{- end }}
{{- end }}
