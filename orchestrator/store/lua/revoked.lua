-- Celery has the end of these cancelled jobs. Safe to call twice. ARGV: jobs
for _, id in ipairs(ARGV) do
  if job_field(id, 'state') == 'cancelled' then
    redis.call('HSET', job_key(id), 'finished', 1)
    redis.call('ZREM', DUE, 'job:' .. id)
  end
end
return 1
