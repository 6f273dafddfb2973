-- Ends a job that Celery has finished with. Safe to call twice.
-- ARGV: job, now, state, result, reason, token ('' for none; with another one the job is somebody else's to end), and
-- where Celery is to say something of the task from now on: the key, the text, for how many seconds.
local id, now = ARGV[1], tonumber(ARGV[2])
local job = job_of(id, 'urls', 'saved', 'collect_failures', 'finishing')
local state, urls, saved, collect_failures, lease = job[1], unpack(job, 6, 9)
if state ~= 'collecting' and state ~= 'cancelled' then return 0 end
if ARGV[6] ~= '' and lease and lease ~= ARGV[6] then return 0 end
redis.call('HDEL', job_key(id), 'finishing', 'begun', 'saved', 'sent')
if state == 'cancelled' then
  redis.call('HSET', job_key(id), 'finished', 1)
  redis.call('ZREM', DUE, 'job:' .. id)
  return 0
end
if collect_failures then
  redis.call('ZREM', COLLECTING, id)
  if ARGV[3] == 'succeeded' then redis.call('DEL', STORAGE) end  -- it takes pictures again
end
if ARGV[3] == 'failed' and urls ~= '' and saved then
  -- A late success came while the failure was on its way: the job is finished once more, with its pictures.
  finish_due(id, now)
  return 0
end
redis.call('ZREM', DUE, 'job:' .. id)
if ARGV[3] == 'failed' then redis.call('ZADD', DEAD, now, id) end
local told = {}
if ARGV[4] ~= '' then told[1], told[2] = 'result', ARGV[4] end
if ARGV[5] ~= '' then told[#told + 1] = 'reason'; told[#told + 1] = ARGV[5] end
end_job(id, now, ARGV[3], told, job)
if ARGV[7] then
  redis.call('SET', ARGV[7], ARGV[8], 'EX', ARGV[9])
  redis.call('PUBLISH', ARGV[7], ARGV[8])
end
return 1
