-- Deletes the records of the first jobs of a batch that is over; with the last of them, those of the batch.
-- ARGV: batch, jobs: the first of the batch, in their order
-- Gives how many were deleted: none where these are the first no more, or the batch is not over.
local batch, count = ARGV[1], #ARGV - 1
local known = redis.call('HMGET', batch_key(batch), 'created', 'over', 'filling')
if known[1] and not known[2] or known[3] then return 0 end
local jobs_of = P .. 'jobs-of:' .. batch
for i, id in ipairs(redis.call('LRANGE', jobs_of, 0, count - 1)) do
  if id ~= ARGV[i + 1] then return 0 end
end
for i = 2, #ARGV do
  local id = ARGV[i]
  local attempts, fingerprint = unpack(redis.call('HMGET', job_key(id), 'attempts', 'fingerprint'))
  for n = 1, tonumber(attempts or '0') do redis.call('DEL', attempt_key(id .. '.' .. n)) end
  -- A job of this id may come again, and a provider still tell of these: they are not its own.
  if attempts and fingerprint then redis.call('SET', was_key(id), attempts, 'EX', KEEP) end
  redis.call('DEL', job_key(id))
  redis.call('ZREM', DEAD, id)
  redis.call('ZREM', DUE, 'job:' .. id)
end
if count > 0 then redis.call('LTRIM', jobs_of, count, -1) end
if redis.call('EXISTS', jobs_of) == 0 then forget_batch(batch) end
return count
