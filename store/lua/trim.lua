-- trim: take decisions that were moved to a file out of a stream, up to a sealed one, and leave an anchor for what follows.
-- This is a decision itself. A trimmed stream frees its memory by whole blocks, so it is quick however many they are.
-- KEYS[1] perdure:{q}:events   KEYS[2] perdure:{q}:seals   KEYS[3] perdure:{q}:anchor
-- KEYS[4] perdure:{q}:decided:<nonce> of this decision
-- ARGV[1] ID of the last decision to take out   ARGV[2] its hash   ARGV[3] MAC of its seal
-- ARGV[4] the anchor as it was read, '' when there was none   ARGV[5] the anchor from now on   ARGV[6] actor   ARGV[7] reason
-- ARGV[8] what was here before   ARGV[9] where it is now
-- Returns 1 taken out; -1 there is no such decision, or it is not sealed so; -2 others have taken some out meanwhile. Sent
-- twice, what it answered before.
-- Its seal stays as the first one, and the event of this decision keeps the stream from being empty.
local before = taken(KEYS[4])
if before then return before end

-- has says whether the entry of an ID in a stream has a field with a value.
local function has(stream, name, value)
  local entry = redis.call('XRANGE', stream, ARGV[1], ARGV[1])[1]
  for i = 1, entry and #entry[2] or 0, 2 do
    if entry[2][i] == name then return entry[2][i + 1] == value end
  end
  return false
end

if (redis.call('GET', KEYS[3]) or '') ~= ARGV[4] then return -2 end
if not has(KEYS[1], 'hash', ARGV[2]) or not has(KEYS[2], 'mac', ARGV[3]) then return -1 end
local ms, number = string.match(ARGV[1], '^(%d+)-(%d+)$')
decision(KEYS[1], 'move out', '', ARGV[6], ARGV[7], ARGV[8], ARGV[9])
redis.call('SET', KEYS[3], ARGV[5])
redis.call('XTRIM', KEYS[1], 'MINID', string.format('%s-%.0f', ms, tonumber(number) + 1))
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[1])
return took(KEYS[4], 1)
