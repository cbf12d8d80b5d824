package store

// scheduleChanges continues scriptChanges with the scripts of schedules.
const scheduleChanges = `
fire 1
+asynq:{q}:pending=k
+asynq:{q}:t:k msg
+asynq:{q}:t:k pending_since=<time>
+asynq:{q}:t:k state=pending
+perdure:{q}:fired s=<time>

fire 3
+perdure:{q}:fired s=<time>

note 1
+perdure:{@cron}:decided:<nonce> ttl=set
+perdure:{@cron}:decided:<nonce>=1
+perdure:{@cron}:events 0=backfill schedule s by ada: because

rest 1 pause
+perdure:{@cron}:decided:<nonce> ttl=set
+perdure:{@cron}:decided:<nonce>=1
+perdure:{@cron}:events 1=pause schedule s by ada: because (active -> paused)
+perdure:{@cron}:s:s paused={"actor":"ada"}
~perdure:{@cron}:changes=2

rest 1 resume
+perdure:{@cron}:decided:<nonce> ttl=set
+perdure:{@cron}:decided:<nonce>=1
+perdure:{@cron}:events 2=resume schedule s by ada: because (paused -> active)
+perdure:{@cron}:s:s resumed=<time>
-perdure:{@cron}:s:s paused
~perdure:{@cron}:changes=3

schedule 1
+perdure:{@cron}:changes=1
+perdure:{@cron}:decided:<nonce> ttl=set
+perdure:{@cron}:decided:<nonce>=1
+perdure:{@cron}:events 0=add schedule s by ada: because ( -> revision 1, timing ["* * * * *","","","","0s"])
+perdure:{@cron}:names=s
+perdure:{@cron}:s:s def={"name":"s","when":"* * * * *","kind":"kind.a"}
+perdure:{@cron}:s:s last=<time>
+perdure:{@cron}:s:s origin=api
+perdure:{@cron}:s:s rev=1
+perdure:{@cron}:s:s timing=["* * * * *","","","","0s"]

schedule 2 other timing
+perdure:{@cron}:decided:<nonce> ttl=set
+perdure:{@cron}:decided:<nonce>=2
+perdure:{@cron}:events 1=change schedule s by ada: because (revision 1, timing ["* * * * *","","","","0s"] -> revision 2, timing ["@hourly","","","","0s"])
+perdure:{@cron}:ticks:s 0=changed <nil> by <nil>: because
~perdure:{@cron}:changes=2
~perdure:{@cron}:s:s def={"name":"s","when":"@hourly","kind":"kind.a"}
~perdure:{@cron}:s:s last=<time>
~perdure:{@cron}:s:s rev=2
~perdure:{@cron}:s:s timing=["@hourly","","","","0s"]

schedule 2 same timing
+perdure:{@cron}:decided:<nonce> ttl=set
+perdure:{@cron}:decided:<nonce>=2
+perdure:{@cron}:events 1=change schedule s by ada: because (revision 1, timing ["* * * * *","","","","0s"] -> revision 2, timing ["* * * * *","","","","0s"])
~perdure:{@cron}:changes=2
~perdure:{@cron}:s:s def={"name":"s","when":"* * * * *","kind":"kind.a","queue":"p"}
~perdure:{@cron}:s:s rev=2

schedule 2 taken over by code
+perdure:{@cron}:decided:<nonce> ttl=set
+perdure:{@cron}:decided:<nonce>=2
+perdure:{@cron}:events 1=change schedule s by ada: because (revision 1, timing ["* * * * *","","","","0s"] -> revision 2, timing ["* * * * *","","","","0s"])
~perdure:{@cron}:changes=2
~perdure:{@cron}:s:s origin=code
~perdure:{@cron}:s:s rev=2

schedule 4
+perdure:{@cron}:decided:<nonce> ttl=set
+perdure:{@cron}:decided:<nonce>=4
+perdure:{@cron}:events 1=change schedule s by ada: because (revision 1, timing ["* * * * *","","","","0s"] -> revision 2, timing ["@hourly","","","","0s"])
+perdure:{@cron}:ticks:s 0=changed <nil> by <nil>: because
~perdure:{@cron}:changes=2
~perdure:{@cron}:s:s def={"name":"s","when":"@hourly","kind":"kind.a"}
~perdure:{@cron}:s:s last=<time>
~perdure:{@cron}:s:s rev=2
~perdure:{@cron}:s:s timing=["@hourly","","","","0s"]

setback 1
~perdure:{q}:fired s=<time>

tick 1 fires
+perdure:{@cron}:s:s nonce=n
+perdure:{@cron}:s:s open=open
~perdure:{@cron}:s:s last=<time>

tick 1 skips
+perdure:{@cron}:s:s nonce=n
+perdure:{@cron}:s:s skipped=1
+perdure:{@cron}:ticks:s 0=skipped <nil> by <nil>: overlap
~perdure:{@cron}:s:s last=<time>

tick 1 skips paused
+perdure:{@cron}:s:s nonce=n
+perdure:{@cron}:s:s skipped=1
+perdure:{@cron}:ticks:s 0=skipped <nil> by <nil>: overlap
~perdure:{@cron}:s:s last=<time>

ticked 1 fired
+perdure:{@cron}:s:s closed=n
+perdure:{@cron}:s:s fired=1
+perdure:{@cron}:s:s run=q k
+perdure:{@cron}:ticks:s 0=fired k by <nil>: why
-perdure:{@cron}:s:s open

ticked 1 skipped
+perdure:{@cron}:s:s closed=n
+perdure:{@cron}:s:s run=q k
+perdure:{@cron}:s:s skipped=1
+perdure:{@cron}:ticks:s 0=skipped k by <nil>: why
-perdure:{@cron}:s:s open

ticked 1 with a plan
+perdure:{@cron}:s:s closed=n
+perdure:{@cron}:s:s fired=1
+perdure:{@cron}:s:s run=q plan p1
+perdure:{@cron}:ticks:s 0=fired plan p1 by <nil>: why
-perdure:{@cron}:s:s open

ticked 1 without a run
+perdure:{@cron}:ticks:s 1=fired  by <nil>: why
-perdure:{@cron}:s:s open
~perdure:{@cron}:s:s closed=n
~perdure:{@cron}:s:s fired=2

trigger 1
+perdure:{@cron}:decided:<nonce> ttl=set
+perdure:{@cron}:decided:<nonce>=1
+perdure:{@cron}:events 1=trigger schedule s by ada: because (no tick open -> a tick open)
+perdure:{@cron}:s:s open=open
+perdure:{@cron}:s:s triggered=<time>
~perdure:{@cron}:changes=2

unschedule 1
+perdure:{@cron}:decided:<nonce> ttl=set
+perdure:{@cron}:decided:<nonce>=1
+perdure:{@cron}:events 1=remove schedule s by ada: because (revision 1, timing ["* * * * *","","","","0s"] -> gone)
-perdure:{@cron}:names
-perdure:{@cron}:s:s def
-perdure:{@cron}:s:s last
-perdure:{@cron}:s:s nonce
-perdure:{@cron}:s:s open
-perdure:{@cron}:s:s origin
-perdure:{@cron}:s:s rev
-perdure:{@cron}:s:s timing
~perdure:{@cron}:changes=2

unschedule 1 resting
+perdure:{@cron}:decided:<nonce> ttl=set
+perdure:{@cron}:decided:<nonce>=1
+perdure:{@cron}:events 1=remove schedule s by ada: because (revision 1, timing ["* * * * *","","","","0s"] -> gone)
-perdure:{@cron}:names
-perdure:{@cron}:s:s def
-perdure:{@cron}:s:s last
-perdure:{@cron}:s:s origin
-perdure:{@cron}:s:s rev
-perdure:{@cron}:s:s timing
~perdure:{@cron}:changes=2
`
