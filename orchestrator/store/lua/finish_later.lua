-- A picture was not kept: the finishing is let go until later.
-- ARGV: job, due_at, reason, when its URLs die, fresh URLs ('' for none), storage_seconds (nothing is begun for so
--       long; 0: it was not the storage), token ('' for none)
local id = ARGV[1]
local job = redis.call('HMGET', job_key(id), 'state', 'finishing')
if job[1] ~= 'collecting' or ARGV[7] ~= '' and job[2] ~= ARGV[7] then return 0 end
redis.call('HDEL', job_key(id), 'finishing')
redis.call('HSET', job_key(id), 'collect_error', ARGV[3], 'urls_die', ARGV[4])
if ARGV[5] ~= '' then redis.call('HSET', job_key(id), 'urls', ARGV[5]) end
redis.call('ZADD', COLLECTING, ARGV[4], id)
redis.call('ZADD', DUE, ARGV[2], 'job:' .. id)
if ARGV[6] ~= '0' then redis.call('SET', STORAGE, ARGV[3], 'EX', ARGV[6]) end
return redis.call('HINCRBY', job_key(id), 'collect_failures', 1)
