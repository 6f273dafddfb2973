-- Ends a job that Celery has finished with. Safe to call twice.
-- ARGV: job, now, state, result, reason, token ('' for none; with another one the job is somebody else's to end)
local id, now = ARGV[1], tonumber(ARGV[2])
local job = redis.call('HMGET', job_key(id), 'state', 'collect_failures', 'finishing')
local state = job[1]
if state ~= 'collecting' and state ~= 'cancelled' then return 0 end
if ARGV[6] ~= '' and job[3] and job[3] ~= ARGV[6] then return 0 end
redis.call('HDEL', job_key(id), 'finishing')
if state == 'cancelled' then
  redis.call('HSET', job_key(id), 'finished', 1)
  redis.call('ZREM', DUE, 'job:' .. id)
  return 0
end
if job[2] then
  redis.call('ZREM', COLLECTING, id)
  if ARGV[3] == 'succeeded' then redis.call('DEL', STORAGE) end  -- it takes pictures again
end
if ARGV[3] == 'failed' and job_field(id, 'urls') ~= '' and job_field(id, 'saved') then
  -- A late success came while the failure was on its way: the job is finished once more, with its pictures.
  redis.call('HDEL', job_key(id), 'saved')
  finish_due(id, now)
  return 0
end
redis.call('ZREM', DUE, 'job:' .. id)
redis.call('HDEL', job_key(id), 'saved')
set_state(id, ARGV[3])
if ARGV[3] == 'failed' then
  redis.call('ZADD', DEAD, now, id)
  redis.call('ZREMRANGEBYSCORE', DEAD, '-inf', now - KEEP_DEAD)
end
if ARGV[4] ~= '' then redis.call('HSET', job_key(id), 'result', ARGV[4]) end
if ARGV[5] ~= '' then redis.call('HSET', job_key(id), 'reason', ARGV[5]) end
announce_end(id, now)
return 1
