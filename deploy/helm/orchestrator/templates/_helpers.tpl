{{- define "orchestrator.name" -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "orchestrator.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end -}}

{{- define "orchestrator.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "orchestrator.ports" -}}
receiver: 8000
api: 8001
flower: 5555
operations: 5556
{{- end -}}

{{- /* Secret of this chart's values -> the variable it is told by */ -}}
{{- define "orchestrator.variables" -}}
redisUrl: ORCHESTRATOR_REDIS_URL
brokerUrl: ORCHESTRATOR_BROKER_URL
secretKeys: ORCHESTRATOR_SECRET_KEYS
notifySecret: ORCHESTRATOR_NOTIFY_SECRET
apiKeys: ORCHESTRATOR_API_KEYS
dashboardLogin: FLOWER_BASIC_AUTH
{{- end -}}

{{- /* Whether a role is to know a secret: API keys and the dashboards' login are for those alone whom they open */ -}}
{{- define "orchestrator.knows" -}}
{{- if eq .secret "apiKeys" -}}{{- if eq .role "api" }}yes{{ end -}}
{{- else if eq .secret "dashboardLogin" -}}{{- if has .role (list "flower" "operations") }}yes{{ end -}}
{{- else }}yes{{ end -}}
{{- end -}}

{{- define "orchestrator.command" -}}
{{- $concurrency := .settings.concurrency | default 1 | toString -}}
{{- if eq .role "worker" -}}
{{- $queues := ternary (list "--exclude-queues" "orchestrator.finish") (list) .root.Values.roles.collector.enabled -}}
{{- concat (list "python3" "-m" "orchestrator.celery" "-A" "workers" "worker" "-E" "--loglevel=INFO" "--hostname=worker@%h" "--concurrency" $concurrency) $queues | toJson -}}
{{- else if eq .role "collector" -}}
{{- list "python3" "-m" "orchestrator.celery" "-A" "workers" "worker" "-E" "--loglevel=INFO" "--hostname=collector@%h" "--concurrency" $concurrency "--queues" "orchestrator.finish" "--prefetch-multiplier" "1" | toJson -}}
{{- else if eq .role "ticker" -}}
{{- list "python3" "-m" "orchestrator.celery" "-A" "workers" "beat" "--loglevel=INFO" "--pidfile=" | toJson -}}
{{- else if eq .role "receiver" -}}
{{- list "gunicorn" "--config" "python:webhooks.gunicorn_conf" "--bind" "0.0.0.0:8000" | toJson -}}
{{- else if eq .role "api" -}}
{{- list "gunicorn" "--config" "python:webhooks.api.gunicorn_conf" "--bind" "0.0.0.0:8001" | toJson -}}
{{- else if eq .role "operations" -}}
{{- list "gunicorn" "--config" "python:webhooks.operations.gunicorn_conf" "--bind" "0.0.0.0:5556" | toJson -}}
{{- else -}}
{{- list "celery" "-A" "workers" "flower" "--conf=deploy/flowerconfig.py" "--address=0.0.0.0" "--port=5555" | toJson -}}
{{- end -}}
{{- end -}}

{{- define "orchestrator.probes" -}}
{{- if has .role (list "worker" "collector" "ticker") -}}
{{- $beats := dict "exec" (dict "command" (list "sh" "-c" "test -n \"$(find /run/orchestrator/heartbeat -mmin -1)\"")) -}}
startupProbe: {{ merge (dict "periodSeconds" 2 "failureThreshold" 60) $beats | toJson }}
livenessProbe: {{ merge (dict "periodSeconds" 20 "timeoutSeconds" 5 "failureThreshold" 3) $beats | toJson }}
{{- else if has .role (list "receiver" "api") -}}
startupProbe: { httpGet: { path: /healthz, port: http }, periodSeconds: 2, failureThreshold: 60 }
livenessProbe: { httpGet: { path: /healthz, port: http }, periodSeconds: 10, timeoutSeconds: 5 }
readinessProbe: { httpGet: { path: /readyz, port: http }, periodSeconds: 3, timeoutSeconds: 5, failureThreshold: 2 }
{{- else -}}
{{- $asked := ternary (dict "httpGet" (dict "path" "/healthcheck" "port" "http")) (dict "httpGet" (dict "path" "/healthz" "port" "http")) (eq .role "flower") -}}
startupProbe: {{ merge (dict "periodSeconds" 2 "failureThreshold" 60) $asked | toJson }}
livenessProbe: {{ merge (dict "periodSeconds" 10 "timeoutSeconds" 5) $asked | toJson }}
readinessProbe: {{ merge (dict "periodSeconds" 5 "timeoutSeconds" 5) $asked | toJson }}
{{- end -}}
{{- end -}}
