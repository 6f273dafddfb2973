-- A batch has been cancelled: what is left of it goes on, and nobody fills it who does not say so again.
-- ARGV: batch, now. Gives the grants.
local batch, now, grants, providers = ARGV[1], tonumber(ARGV[2]), {}, {}
redis.call('DEL', filling_key(batch))
end_filling(batch, now)
if redis.call('HGET', batch_key(batch), 'paused') ~= 'cancel' then return grants end
resume_batch(batch)
add_providers_of_batch(batch, providers)
fill_all(providers, now, grants)
return grants
