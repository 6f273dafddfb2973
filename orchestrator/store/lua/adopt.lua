-- Takes over a generation that Redis knows nothing of: its job is polled from now on, and never submitted again.
-- ARGV: job, number of the attempt, provider, account, upstream id, now, timing
-- Gives 1, or 0 where the job is known already.
local id, attempt, now = ARGV[1], ARGV[1] .. '.' .. ARGV[2], tonumber(ARGV[6])
local provider, account = ARGV[3], ARGV[4]
if redis.call('EXISTS', job_key(id)) == 1 then return 0 end
local deadline = now + tonumber(account_field(provider, account, 'deadline_seconds') or DAY)
redis.call('HSET', job_key(id), 'provider', provider, 'parameters', '{}', 'batch', '', 'created', now, 'place', 0,
  'state', 'submitted', 'attempts', ARGV[2], 'account', account, 'max_attempts', 1, 'adopted', 1)
count_states(provider, '', nil, 'submitted')
redis.call('HSET', attempt_key(attempt), 'job', id, 'provider', provider, 'account', account, 'state', 'submitted',
  'granted', now, 'opened', now, 'submitted', now, 'deadline', deadline, 'upstream_id', ARGV[5], 'timing', ARGV[7],
  'expects', '0', 'max_attempts', 1, 'price', price_of(provider, account))
spend(attempt, 'committed')
redis.call('ZADD', slots_key(provider, account), deadline + LEASE_GRACE, attempt)
redis.call('ZADD', DUE, now, 'job:' .. id)
return 1
