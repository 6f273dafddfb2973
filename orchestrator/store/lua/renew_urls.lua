-- The provider told fresh URLs of pictures that are not kept yet. ARGV: job, now, URLs, when they die
local id, now = ARGV[1], tonumber(ARGV[2])
local job = redis.call('HMGET', job_key(id), 'state', 'finishing')
if job[1] ~= 'collecting' and job[1] ~= 'failed' then return 0 end
redis.call('HSET', job_key(id), 'urls', ARGV[3], 'urls_die', ARGV[4])
if job[1] == 'failed' then return 1 end
redis.call('ZADD', COLLECTING, 'XX', ARGV[4], id)
if tonumber(job[2] or '0') <= now then redis.call('ZADD', DUE, now, 'job:' .. id) end
return 1
