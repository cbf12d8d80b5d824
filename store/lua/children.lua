-- children: where a group of children stands. A group that is new is written down before any of its children is made.
-- KEYS[1] asynq:{q}:t:<key> of the parent
-- ARGV[1] token   ARGV[2] name   ARGV[3] the group, JSON   ARGV[4] how many children it has   ARGV[5] incarnation
-- ARGV[6] how many of them, from the first, are made by now; '' when the caller has yet to learn what the group is
-- ARGV[7] '1' to arm the wait for them once all are made   ARGV[8] most fields that a job may have
-- Returns {code, asked, now in ms, standing, group}: code 1 it is written down; -1 no such job; -2 stale token; -4 too
-- many fields. The standing is b:<name>; the group is c:<name>, as it was first written, only while ARGV[6] is ''. When
-- the parent is to be cancelled or paused (asked is that of checkpoint) nothing is written.
local owns = ownership(KEYS[1], ARGV[1])
if owns == 2 then owns = -2 end
local _, now_ms = clock()
if owns ~= 1 then return {owns, 0, now_ms, '', ''} end
local wanted = asked(KEYS[1])
if wanted ~= 0 then return {1, wanted, now_ms, '', ''} end
local group, standing = 'c:' .. ARGV[2], 'b:' .. ARGV[2]
local had = redis.call('HMGET', KEYS[1], standing, group)
local now = had[1] or string.rep('-', tonumber(ARGV[4]))
if ARGV[6] ~= '' then
  local made = tonumber(ARGV[6])
  now = string.gsub(string.sub(now, 1, made), '%-', '0') .. string.sub(now, made + 1)
end
local arm = ARGV[7] == '1' and string.find(now, '0', 1, true) and not string.find(now, '-', 1, true)
if (arm or not had[1]) and redis.call('HLEN', KEYS[1]) + 4 > tonumber(ARGV[8]) then return {-4, 0, now_ms, '', ''} end
if not had[1] then redis.call('HSET', KEYS[1], group, ARGV[3], 'p:kids', ARGV[5]) end
if now ~= had[1] then redis.call('HSET', KEYS[1], standing, now) end
if arm then redis.call('HSETNX', KEYS[1], 'w:' .. ARGV[2], string.format('0 %.0f children', now_ms)) end
return {1, 0, now_ms, now, ARGV[6] == '' and (had[2] or ARGV[3]) or ''}
