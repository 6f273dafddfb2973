-- A callback that a step is told of. Of ARGV the last nine: its delivery's key ('' where it has none), for how long
-- that is remembered, how many the journal keeps, how many are parked, at, provider, account, attempt, body
local function is_replay()
  local delivery = ARGV[#ARGV - 8]
  return delivery ~= '' and redis.call('EXISTS', delivery) == 1
end

-- What it led to. One that was refused may come again.
local function note(word)
  local delivery, remembered, recent, parked, at, provider, account, attempt, body = unpack(ARGV, #ARGV - 8)
  local key, kept = P .. 'callbacks', recent
  if word == 'unknown' or word == 'unreadable' then key, kept = P .. 'parked', parked end
  redis.call('XADD', key, 'MAXLEN', '~', kept, '*', 'at', at, 'provider', provider, 'account', account,
    'attempt', attempt, 'word', word, 'body', body)
  if delivery ~= '' and word ~= 'mismatch' and word ~= 'unreadable' then
    redis.call('SET', delivery, '1', 'EX', remembered)
  end
end
