{{- define "restmcts.labels" -}}
app.kubernetes.io/name: restmcts
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "restmcts.metadata" -}}
name: {{ .root.Release.Name }}-{{ .component }}{{ .suffix }}
labels:
  {{- include "restmcts.labels" . | nindent 2 }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
  helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "restmcts.image" -}}
{{- with .root.Values.image.registry }}{{ . }}/{{ end }}restmcts-{{ .component }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "restmcts.keyName" -}}
{{- $prefix := .root.Values.serviceSecrets.existingPrefix | default (printf "%s-key-" .root.Release.Name) -}}
{{ $prefix }}{{ .component }}
{{- end }}

{{/* Services with an account for the bucket; they are those of restmcts.adapters.storage.bucket_setup. */}}
{{- define "restmcts.bucketUsers" -}}
policy-generator prm-scorer value-labeler trainer dashboard cli
{{- end }}

{{- define "restmcts.usesBucket" -}}
{{- if has .component (splitList " " (include "restmcts.bucketUsers" .)) }}yes{{ end }}
{{- end }}

{{/* Links to Services are variables: that to restmcts-dashboard would be the setting RESTMCTS_DASHBOARD_PORT. */}}
{{- define "restmcts.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "restmcts.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "restmcts.bucket" -}}
- {name: RESTMCTS_S3_ENDPOINT, value: {{ .root.Values.s3.endpoint | quote }}}
- {name: RESTMCTS_S3_BUCKET, value: {{ .root.Values.s3.bucket | quote }}}
- {name: RESTMCTS_S3_SECURE, value: {{ .root.Values.s3.secure | quote }}}
{{- end }}

{{- define "restmcts.bucketAdmin" -}}
{{- with .root.Values.s3.adminSecret }}
- name: RESTMCTS_S3_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .accessKeyKey }}}}
- name: RESTMCTS_S3_SECRET_KEY
  valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .secretKeyKey }}}}
{{- end }}
{{- end }}

{{/* How much of a pod's volume what it fetched of the bucket may take: half of its size, in bytes. */}}
{{- define "restmcts.cacheBytes" -}}
{{- $units := dict "m" 0.001 "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $number := regexFind "^[0-9.]+" . | float64 -}}
{{- divf (mulf $number (get $units (regexFind "[A-Za-z]*$" .))) 2 | int64 -}}
{{- end }}

{{- define "restmcts.volumeSize" -}}
{{ .cacheSize | default "1Gi" }}
{{- end }}

{{/* What every long-running container of ours gets: servers, settings, its own keys as files. */}}
{{- define "restmcts.environment" -}}
- name: RESTMCTS_REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ .root.Values.redis.secret.name }}, key: {{ .root.Values.redis.secret.key }}}}
{{ include "restmcts.bucket" . }}
{{- if and (not .root.Values.s3.accounts) (include "restmcts.usesBucket" .) }}
{{- include "restmcts.bucketAdmin" . }}
{{- end }}
- {name: RESTMCTS_METRICS_HOST, value: "0.0.0.0"}
- {name: RESTMCTS_METRICS_PORT, value: "9100"}
{{- $defaults := dict "RESTMCTS_CACHE_BYTES" (include "restmcts.cacheBytes" (include "restmcts.volumeSize" .)) }}
{{- if and (eq .component "trainer") (gt (int .gpus) 1) }}
{{- $_ := set $defaults "RESTMCTS_TRAINING_PROCESSES" (toString .gpus) }}
{{- end }}
{{- range $name, $value := merge (dict) (.settings | default dict) .root.Values.settings $defaults }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- define "restmcts.mounts" -}}
- {name: keys, mountPath: /var/lib/restmcts/secrets, readOnly: true}
- {name: scratch, mountPath: /tmp, subPath: tmp}
- {name: scratch, mountPath: /var/lib/restmcts/run, subPath: run}
- {name: scratch, mountPath: /var/lib/restmcts/cache, subPath: cache}
- {name: scratch, mountPath: /var/lib/restmcts/hub, subPath: hub}
{{- if .gpus }}
- {name: shared-memory, mountPath: /dev/shm}
{{- end }}
{{- end }}

{{- define "restmcts.volumes" -}}
- name: keys
  secret:
    secretName: {{ include "restmcts.keyName" . }}
    defaultMode: 0440
- name: scratch
  emptyDir: {sizeLimit: {{ include "restmcts.volumeSize" . }}}
{{- if .gpus }}
# GPUs of one pod exchange through it; else it has 64 MB, and what is in it counts as the container's memory
- name: shared-memory
  emptyDir: {medium: Memory}
{{- end }}
{{- end }}

{{/* A pod of a worker, whose entry in the values is `worker`; in a job it has a `command` instead of the image's. */}}
{{- define "restmcts.worker" -}}
{{- $root := .root }}
{{- $worker := .worker }}
{{- $models := has .component (list "policy-generator" "prm-scorer" "trainer") }}
{{- $limits := (($worker.resources).limits) | default dict }}
{{- if $worker.gpus }}{{ $limits = merge (dict "nvidia.com/gpu" $worker.gpus) $limits }}{{ end }}
{{- $_ := set . "gpus" (get $limits "nvidia.com/gpu" | default 0 | int) -}}
metadata:
  labels:
    {{- include "restmcts.labels" . | nindent 4 }}
  annotations:
    prometheus.io/scrape: "true"
    prometheus.io/port: "9100"
spec:
  {{- include "restmcts.podSecurity" . | nindent 2 }}
  {{- if .command }}
  restartPolicy: OnFailure
  {{- end }}
  # a model's batch, a tree's transaction and a step of training end within it
  terminationGracePeriodSeconds: 120
  containers:
    - name: {{ .component }}
      {{- with .command }}
      command:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      image: {{ include "restmcts.image" . }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      {{- include "restmcts.containerSecurity" . | nindent 6 }}
      env:
        {{- include "restmcts.environment" . | nindent 8 }}
        {{- if and $models $root.Values.huggingFace.tokenSecret.name }}
        - name: HF_TOKEN
          valueFrom: {secretKeyRef: {name: {{ $root.Values.huggingFace.tokenSecret.name }}, key: {{ $root.Values.huggingFace.tokenSecret.key }}}}
        {{- end }}
      ports:
        - {name: metrics, containerPort: 9100}
      {{- $beats := list "python" "-m" "restmcts.adapters.workers.heartbeat" "--max-age" "30" }}
      startupProbe:
        exec: {command: {{ toJson $beats }}}
        periodSeconds: 10
        timeoutSeconds: 10
        failureThreshold: 30
      livenessProbe:
        exec: {command: {{ toJson (concat $beats (list "--max-stuck" (toString $root.Values.maxStuckSeconds))) }}}
        periodSeconds: 10
        timeoutSeconds: 10
        failureThreshold: 3
      resources:
        requests: {{ toJson ((($worker.resources).requests) | default dict) }}
        limits: {{ toJson $limits }}
      volumeMounts:
        {{- include "restmcts.mounts" . | nindent 8 }}
  volumes:
    {{- include "restmcts.volumes" . | nindent 4 }}
  {{- with $worker.pool }}
  nodeSelector: {{ toJson . }}
  {{- end }}
  {{- with $worker.tolerations }}
  tolerations: {{ toJson . }}
  {{- end }}
{{- end }}
