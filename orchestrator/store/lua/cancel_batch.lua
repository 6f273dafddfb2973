-- Cancels those of a few jobs of a batch that are not over; it is held meanwhile.
-- ARGV: batch, now, place of the first of them in the batch, how many
-- Gives {how many there were, ids that Celery knows only by their result, messages to finish,
-- {job, provider, account, upstream id} of those to be stopped, grants}
local batch, now, first = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local ids = redis.call('LRANGE', P .. 'jobs-of:' .. batch, first, first + ARGV[4] - 1)
local quiet, finishes, to_stop, grants, providers = {}, {}, {}, {}, {}
if #ids > 0 and redis.call('HGET', batch_key(batch), 'over') == false then pause_batch(batch, 'cancel') end
for _, id in ipairs(ids) do
  local job = redis.call('HMGET', job_key(id), 'state', 'options', 'attempts')
  if job[1] == 'queued' or job[1] == 'submitted' then
    add_providers_of(id, providers)
    local finish = cancel_job(id, now)
    if job[2] or job[3] then finishes[#finishes + 1] = finish else quiet[#quiet + 1] = id end
    local held = redis.call('HMGET', job_key(id), 'provider', 'account', 'to_stop')
    if held[3] then to_stop[#to_stop + 1] = {id, held[1], held[2], held[3]} end
  end
end
fill_all(providers, now, grants)
return {#ids, quiet, finishes, to_stop, grants}
