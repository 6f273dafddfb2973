-- Records a job whose pictures were found, and of which Redis knows nothing else.
-- ARGV: job, batch, result, now, provider, account, custom_id, tenant; the last two '' where there are none
-- Gives 1, or 0 where the job is known already.
local id, batch, now = ARGV[1], ARGV[2], tonumber(ARGV[4])
if redis.call('EXISTS', job_key(id)) == 1 then return 0 end
local provider = ARGV[5]
redis.call('HSET', job_key(id), 'provider', provider, 'parameters', '{}', 'batch', batch, 'created', now,
  'place', 0, 'state', 'succeeded', 'attempts', 0, 'account', ARGV[6], 'result', ARGV[3], 'adopted', 1)
if ARGV[7] ~= '' then redis.call('HSET', job_key(id), 'custom_id', ARGV[7]) end
if ARGV[8] ~= '' then redis.call('HSET', job_key(id), 'tenant', ARGV[8]) end
if batch ~= '' then join_batch(batch, {id}, now) end
count_states(provider, batch, nil, 'succeeded')
end_job(id, now, 'succeeded', {})
return 1
