-- Ends a job that Celery has finished with. Safe to call twice. ARGV: job, now, state, result, keep_seconds, reason
local id = ARGV[1]
local state = job_field(id, 'state')
if not state then return 0 end
redis.call('ZREM', DUE, 'job:' .. id)
redis.call('HDEL', job_key(id), 'finishing')
if state ~= 'collecting' then return 0 end
set_state(id, ARGV[3])
if ARGV[4] ~= '' then redis.call('HSET', job_key(id), 'result', ARGV[4]) end
if ARGV[6] ~= '' then redis.call('HSET', job_key(id), 'reason', ARGV[6]) end
announce_end(id, ARGV[2], ARGV[5])
return 1
