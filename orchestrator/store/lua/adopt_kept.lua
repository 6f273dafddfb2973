-- Records a job whose pictures were found, and of which Redis knows nothing else.
-- ARGV: job, batch, result, now
-- Gives 1, or 0 where the job is known already.
local id, batch, now = ARGV[1], ARGV[2], tonumber(ARGV[4])
if redis.call('EXISTS', job_key(id)) == 1 then return 0 end
redis.call('HSET', job_key(id), 'provider', 'unknown', 'parameters', '{}', 'batch', batch, 'created', now,
  'place', 0, 'state', 'succeeded', 'attempts', 0, 'result', ARGV[3], 'adopted', 1)
if batch ~= '' then join_batch(batch, {id}, now) end
count_states('unknown', batch, nil, 'succeeded')
announce_end(id, now)
return 1
