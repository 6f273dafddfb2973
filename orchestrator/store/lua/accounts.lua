-- How the accounts of a provider stand. ARGV: provider, now
-- Gives for each {name, fields, changed limits, slots in use, slots it takes now, generations of the last 24 hours,
-- seconds until its pace has a request left, until when it takes no work ('' where it does) and why}
local provider, now, rows = ARGV[1], tonumber(ARGV[2]), {}
local names = redis.call('SMEMBERS', accounts_key(provider))
table.sort(names)
for i, name in ipairs(names) do
  redis.call('ZREMRANGEBYSCORE', slots_key(provider, name), '-inf', now)
  local opens_at, why = closed_until(provider, name, now, unpack(limits_of(provider, name, 'rest_until', 'rest_reason',
    'max_spend', 'max_per_day')))
  rows[i] = {
    name,
    redis.call('HGETALL', account_key(provider, name)),
    redis.call('HKEYS', P .. 'changed:' .. provider .. '/' .. name),
    redis.call('ZCARD', slots_key(provider, name)),
    slots_of(provider, name),
    redis.call('ZCOUNT', day_key(provider, name), now - DAY, '+inf'),
    tostring((turn_of(provider, name, now))),
    opens_at and string.format('%.3f', opens_at) or '',
    why or '',
  }
end
return rows
