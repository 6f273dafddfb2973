-- An account's limits are what its file says, and above that what a person changed since.
-- ARGV: provider, account, where they come from ('configured' | 'changed'), then name, value …
-- A changed value of '' is no more changed.
local provider, account, source = ARGV[1], ARGV[2], ARGV[3]
local function key_of(which) return P .. which .. ':' .. provider .. '/' .. account end
local before = account_field(provider, account, 'requests_per_second')
if source == 'configured' then redis.call('DEL', key_of(source)) end
for i = 4, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', key_of(source), ARGV[i])
  else
    redis.call('HSET', key_of(source), ARGV[i], ARGV[i + 1])
  end
end
for _, which in ipairs({'configured', 'changed'}) do
  local limits = redis.call('HGETALL', key_of(which))
  if #limits > 0 then redis.call('HSET', account_key(provider, account), unpack(limits)) end
end
if account_field(provider, account, 'requests_per_second') ~= before then
  redis.call('HDEL', account_key(provider, account), 'next_request')  -- what was taken at the old pace is forgotten
end
return 1
