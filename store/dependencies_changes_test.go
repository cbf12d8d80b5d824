package store

// dependencyChanges continues scriptChanges with the scripts of dependencies and lanes.
const dependencyChanges = `
admit 0 a probe, whatever the rate
~perdure:{@dep}:d:pay rate:begun=<time>.000
~perdure:{@dep}:d:pay rate:next=<time>.000
~perdure:{@dep}:leases:pay id=<time>

admit 0 it recovers
+perdure:{@dep}:d:pay ramp:begun=<time>.000
+perdure:{@dep}:d:pay ramp:next=<time>.000

admit 0 of two
+perdure:{@dep}:d:pay rate:begun=<time>.000
+perdure:{@dep}:d:pay rate:next=<time>.000
+perdure:{@dep}:leases:pay id=<time>

admit 0 rate and place
+perdure:{@dep}:d:pay rate:begun=<time>.000
+perdure:{@dep}:d:pay rate:next=<time>.000
+perdure:{@dep}:leases:pay id=<time>

admit 0 with a pass
+perdure:{@dep}:d:pay rate:begun=<time>.000
+perdure:{@dep}:leases:pay id=<time>
-perdure:{@dep}:leases:pay g:1

admit 1 a place that was kept has ended
+perdure:{@dep}:d:pay back=g:1
+perdure:{@dep}:d:pay rate:next=<time>.000

admit 2 a pass is given back
+perdure:{@dep}:d:pay back=g:1
-perdure:{@dep}:leases:pay g:1
~perdure:{@dep}:d:pay rate:next=<time>.000

admit 2 a pass of one that recovers is given back
+perdure:{@dep}:d:pay back=g:1
~perdure:{@dep}:d:pay ramp:next=<time>.000

drive 0 it has moved on
-perdure:{q}:lane:pay kind.a k
-perdure:{q}:lanes

drive 0 it is gone
-perdure:{q}:lane:pay kind.a k
-perdure:{q}:lanes

drive 1
+asynq:{q}:pending=k
+asynq:{q}:t:k p:pass=<time> <time> pass 1 g:1 pay
+asynq:{q}:t:k pending_since=<time>
+perdure:{q}:drove:g:1 ttl=set
+perdure:{q}:drove:g:1=1
-asynq:{q}:retry k
-asynq:{q}:t:k p:due
-asynq:{q}:t:k p:wait
-perdure:{q}:lane:pay kind.a k
-perdure:{q}:parked k
~asynq:{q}:t:k state=pending

drive 1 the last
+asynq:{q}:pending=k
+asynq:{q}:t:k p:pass=<time> <time> pass 1 g:1 pay
+asynq:{q}:t:k pending_since=<time>
+perdure:{q}:drove:g:1 ttl=set
+perdure:{q}:drove:g:1=1
-asynq:{q}:retry k
-asynq:{q}:t:k p:due
-asynq:{q}:t:k p:wait
-perdure:{q}:lane:pay kind.a k
-perdure:{q}:lanes
-perdure:{q}:parked k
~asynq:{q}:t:k state=pending

force 1 close
+perdure:{@dep}:d:pay from=<time>
+perdure:{@dep}:d:pay start=1
+perdure:{@dep}:events 1=recover pay by ada: because (open -> recovering)
-perdure:{@dep}:d:pay forced
-perdure:{@dep}:d:pay next
~perdure:{@dep}:board pay={"forced":false,"rate":0,"turn":1,"state":"recovering","throttled":0,"by":"ada","reason":"because","places":0,"since":<time>}
~perdure:{@dep}:d:pay since=<time>
~perdure:{@dep}:d:pay state=recovering
~perdure:{@dep}:names pay=<time>

force 1 open
+perdure:{@dep}:board pay={"forced":true,"rate":0,"turn":1,"state":"open","throttled":0,"by":"ada","reason":"because","places":0,"since":<time>}
+perdure:{@dep}:d:pay by=ada
+perdure:{@dep}:d:pay forced=1
+perdure:{@dep}:d:pay next=<time>
+perdure:{@dep}:d:pay probes=0
+perdure:{@dep}:d:pay reason=because
+perdure:{@dep}:d:pay resumed=0
+perdure:{@dep}:d:pay since=<time>
+perdure:{@dep}:d:pay state=open
+perdure:{@dep}:d:pay turn=1
+perdure:{@dep}:decided:<nonce> ttl=set
+perdure:{@dep}:decided:<nonce>=1
+perdure:{@dep}:events 0=open pay by ada: because (closed -> open)
+perdure:{@dep}:names pay=<time>

force 1 open what is open
+perdure:{@dep}:d:pay forced=1
+perdure:{@dep}:decided:<nonce> ttl=set
+perdure:{@dep}:decided:<nonce>=1
+perdure:{@dep}:events 1=open pay by ada: because (open -> open)
-perdure:{@dep}:d:pay lasts
-perdure:{@dep}:d:pay probe
~perdure:{@dep}:board pay={"forced":true,"rate":0,"turn":2,"state":"open","throttled":0,"by":"ada","reason":"because","places":0,"since":<time>}
~perdure:{@dep}:d:pay by=ada
~perdure:{@dep}:d:pay next=<time>
~perdure:{@dep}:d:pay probes=0
~perdure:{@dep}:d:pay reason=because
~perdure:{@dep}:d:pay since=<time>
~perdure:{@dep}:d:pay turn=2
~perdure:{@dep}:names pay=<time>

grant 0 closes
+perdure:{@dep}:d:pay ttl=set
+perdure:{@dep}:events 2=close pay by perdure: it has recovered (recovering -> closed)
-perdure:{@dep}:board pay
-perdure:{@dep}:d:pay from
-perdure:{@dep}:d:pay line
-perdure:{@dep}:d:pay lined
-perdure:{@dep}:d:pay start
~perdure:{@dep}:d:pay reason=
~perdure:{@dep}:d:pay since=<time>
~perdure:{@dep}:d:pay state=closed

grant 0 closes one with settings
+perdure:{@dep}:events 3=close pay by perdure: it has recovered (recovering -> closed)
-perdure:{@dep}:board pay
-perdure:{@dep}:d:pay from
-perdure:{@dep}:d:pay line
-perdure:{@dep}:d:pay lined
-perdure:{@dep}:d:pay start
~perdure:{@dep}:d:pay reason=
~perdure:{@dep}:d:pay since=<time>
~perdure:{@dep}:d:pay state=closed

grant 0 health
+perdure:{@dep}:d:pay checker=<time>
+perdure:{@dep}:d:pay lasts=<time>
+perdure:{@dep}:d:pay probe=g:1
~perdure:{@dep}:d:pay next=<time>
~perdure:{@dep}:d:pay probes=1
~perdure:{@dep}:names pay=<time>

grant 0 job
+perdure:{@dep}:d:pay lasts=<time>
+perdure:{@dep}:d:pay line=3
+perdure:{@dep}:d:pay lined=<time>
+perdure:{@dep}:d:pay probe=g:1
~perdure:{@dep}:d:pay next=<time>
~perdure:{@dep}:d:pay probes=1

grant 0 left to the health check
+perdure:{@dep}:d:pay line=3
+perdure:{@dep}:d:pay lined=<time>

grant 0 places and rate
+perdure:{@dep}:d:pay line=3
+perdure:{@dep}:d:pay lined=<time>
+perdure:{@dep}:d:pay rate:next=<time>.000
+perdure:{@dep}:d:pay resumed=1
+perdure:{@dep}:leases:pay g:1=<time>

grant 0 too soon for a probe
+perdure:{@dep}:d:pay line=3
+perdure:{@dep}:d:pay lined=<time>

grant 0 what was known is lost
+perdure:{@dep}:board pay={"forced":false,"rate":0,"turn":0,"state":"recovering","throttled":0,"by":"perdure","reason":"jobs wait for it, and what was known of it is lost","places":0,"since":<time>}
+perdure:{@dep}:d:pay by=perdure
+perdure:{@dep}:d:pay from=<time>
+perdure:{@dep}:d:pay line=3
+perdure:{@dep}:d:pay lined=<time>
+perdure:{@dep}:d:pay ramp:next=<time>.000
+perdure:{@dep}:d:pay reason=jobs wait for it, and what was known of it is lost
+perdure:{@dep}:d:pay resumed=1
+perdure:{@dep}:d:pay since=<time>
+perdure:{@dep}:d:pay start=1
+perdure:{@dep}:d:pay state=recovering
+perdure:{@dep}:events 0=recover pay by perdure: jobs wait for it, and what was known of it is lost (closed -> recovering)
+perdure:{@dep}:names pay=<time>

grant 0 while it recovers
+perdure:{@dep}:d:pay ramp:next=<time>.000
~perdure:{@dep}:d:pay lined=<time>
~perdure:{@dep}:d:pay resumed=1

pause 1 in a lane
+asynq:{q}:retry k=<time>
+asynq:{q}:t:k p:due=<time>
+asynq:{q}:t:k p:ltok=1-o-1
+asynq:{q}:t:k p:pn=1
+asynq:{q}:t:k p:ver=1
+asynq:{q}:t:k p:wait=1 <time> dependency pay kind.a
+perdure:{q}:lane:pay kind.a k=<time>
+perdure:{q}:lanes=pay kind.a
+perdure:{q}:parked k=<time>
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=retry

pause 1 in a lane, where it was
+asynq:{q}:retry k=<time>
+asynq:{q}:t:k p:due=<time>
+asynq:{q}:t:k p:ltok=1-o-1
+asynq:{q}:t:k p:pn=1
+asynq:{q}:t:k p:ver=1
+asynq:{q}:t:k p:wait=1 77 dependency pay kind.a
+perdure:{q}:lane:pay kind.a k=77
+perdure:{q}:lanes=pay kind.a
+perdure:{q}:parked k=77
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=retry

probed 1 failed
+perdure:{@dep}:d:pay found=refused
-perdure:{@dep}:d:pay lasts
-perdure:{@dep}:d:pay probe

probed 1 nothing
-perdure:{@dep}:d:pay lasts
-perdure:{@dep}:d:pay probe

probed 1 well
+perdure:{@dep}:d:pay from=<time>
+perdure:{@dep}:d:pay start=1
+perdure:{@dep}:events 1=recover pay by perdure: a probe found it well (open -> recovering)
-perdure:{@dep}:d:pay lasts
-perdure:{@dep}:d:pay next
-perdure:{@dep}:d:pay probe
~perdure:{@dep}:board pay={"forced":false,"rate":0,"turn":1,"state":"recovering","throttled":0,"by":"perdure","reason":"a probe found it well","places":0,"since":<time>}
~perdure:{@dep}:d:pay reason=a probe found it well
~perdure:{@dep}:d:pay since=<time>
~perdure:{@dep}:d:pay state=recovering
~perdure:{@dep}:names pay=<time>

probed 1 well, of one that hung
+perdure:{@dep}:d:pay from=<time>
+perdure:{@dep}:d:pay start=1
+perdure:{@dep}:events 1=recover pay by perdure: a probe found it well (open -> recovering)
-perdure:{@dep}:d:pay lasts
-perdure:{@dep}:d:pay next
-perdure:{@dep}:d:pay probe
~perdure:{@dep}:board pay={"forced":false,"rate":0,"turn":1,"state":"recovering","throttled":0,"by":"perdure","reason":"a probe found it well","places":0,"since":<time>}
~perdure:{@dep}:d:pay reason=a probe found it well
~perdure:{@dep}:d:pay since=<time>
~perdure:{@dep}:d:pay state=recovering
~perdure:{@dep}:names pay=<time>

remember 1
+perdure:{@dep}:board pay={"forced":false,"rate":0,"turn":4,"state":"recovering","throttled":0,"by":"perdure","reason":"what was known of it is lost","places":0,"since":<time>}
+perdure:{@dep}:d:pay by=perdure
+perdure:{@dep}:d:pay from=<time>
+perdure:{@dep}:d:pay reason=what was known of it is lost
+perdure:{@dep}:d:pay since=<time>
+perdure:{@dep}:d:pay start=1
+perdure:{@dep}:d:pay state=recovering
+perdure:{@dep}:d:pay turn=4
+perdure:{@dep}:events 0=recover pay by perdure: what was known of it is lost (closed -> recovering)
+perdure:{@dep}:names pay=<time>

drive 1 a probe
+asynq:{q}:pending=k
+asynq:{q}:t:k p:pass=<time> <time> probe 1 g:1 pay
+asynq:{q}:t:k pending_since=<time>
+perdure:{q}:drove:g:1 ttl=set
+perdure:{q}:drove:g:1=1
+perdure:{q}:probes pay=<time> <time> probe 1 g:1 pay
+perdure:{q}:probes ttl=set
-asynq:{q}:retry k
-asynq:{q}:t:k p:due
-asynq:{q}:t:k p:wait
-perdure:{q}:lane:pay kind.a k
-perdure:{q}:lanes
-perdure:{q}:parked k
~asynq:{q}:t:k state=pending

shelve 0 asynq's tools have paused it meanwhile
+perdure:{q}:events 1=resume queue  by perdure: pay is back, or recovers (paused -> paused)
-perdure:{q}:holds dependency:pay

shelve 0 one that was sent back
+perdure:{q}:events 1=resume queue  by perdure: pay is back, or recovers (paused -> open)
-asynq:{q}:paused
-perdure:{q}:holds dependency:pay

shelve 0 over
+perdure:{q}:events 1=resume queue  by perdure: pay is back, or recovers (paused -> open)
-asynq:{q}:paused
-perdure:{q}:holds dependency:pay
-perdure:{q}:probes pay

shelve 1 not over
+asynq:{q}:retry k=<time>
+asynq:{q}:t:k p:due=<time>
+asynq:{q}:t:k p:pn=1
+asynq:{q}:t:k p:wait=1 <time> dependency pay kind.a
+perdure:{q}:lane:pay kind.a k=<time>
+perdure:{q}:lanes=pay kind.a
+perdure:{q}:parked k=<time>
-asynq:{q}:t:k pending_since
~asynq:{q}:pending=l
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=retry

shelve 1 others pause it too
+asynq:{q}:retry k=<time>
+asynq:{q}:t:k p:due=<time>
+asynq:{q}:t:k p:pn=1
+asynq:{q}:t:k p:wait=1 <time> dependency pay kind.a
+perdure:{q}:events 2=resume queue  by perdure: pay is back, or recovers (paused -> paused)
+perdure:{q}:lane:pay kind.a k=<time>
+perdure:{q}:lanes=pay kind.a
+perdure:{q}:parked k=<time>
-asynq:{q}:pending
-asynq:{q}:t:k pending_since
-perdure:{q}:holds dependency:pay
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=retry

shelve 1 over
+asynq:{q}:retry k=<time>
+asynq:{q}:t:k p:due=<time>
+asynq:{q}:t:k p:pn=1
+asynq:{q}:t:k p:wait=1 <time> dependency pay kind.a
+perdure:{q}:events 1=resume queue  by perdure: pay is back, or recovers (paused -> open)
+perdure:{q}:lane:pay kind.a k=<time>
+perdure:{q}:lanes=pay kind.a
+perdure:{q}:parked k=<time>
-asynq:{q}:paused
-asynq:{q}:pending
-asynq:{q}:t:k pending_since
-perdure:{q}:holds dependency:pay
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=retry

throttle 1
+perdure:{@dep}:board pay={"forced":false,"rate":0,"turn":0,"state":"recovering","throttled":<time>,"by":"perdure","reason":"429","places":0,"since":<time>}
+perdure:{@dep}:d:pay by=perdure
+perdure:{@dep}:d:pay from=<time>
+perdure:{@dep}:d:pay reason=429
+perdure:{@dep}:d:pay since=<time>
+perdure:{@dep}:d:pay start=10
+perdure:{@dep}:d:pay state=recovering
+perdure:{@dep}:d:pay until=<time>
+perdure:{@dep}:events 0=recover pay by perdure: 429 (closed -> recovering)
-perdure:{@dep}:votes:pay o
-perdure:{@dep}:votes:pay ttl
~perdure:{@dep}:names pay=<time>

throttle 1 while it recovers
+perdure:{@dep}:d:pay until=<time>
~perdure:{@dep}:board pay={"forced":false,"rate":0,"turn":1,"state":"recovering","throttled":<time>,"by":"perdure","reason":"429","places":0,"since":<time>}
~perdure:{@dep}:d:pay from=<time>
~perdure:{@dep}:d:pay reason=429

tune 1
+perdure:{@dep}:board pay={"forced":false,"rate":10,"turn":0,"state":"closed","throttled":0,"by":"","reason":"","places":0,"since":0}
+perdure:{@dep}:d:pay rate=10
+perdure:{@dep}:d:pay resume=5
+perdure:{@dep}:decided:<nonce> ttl=set
+perdure:{@dep}:decided:<nonce>=1
+perdure:{@dep}:events 0=set pay by ada: because (resume=default rate=default -> resume=5 rate=10)
+perdure:{@dep}:names pay=<time>

tune 1 code
+perdure:{@dep}:board pay={"forced":false,"rate":0,"turn":0,"state":"closed","throttled":0,"by":"","reason":"","places":2,"since":0}
+perdure:{@dep}:d:pay code:places=2
+perdure:{@dep}:d:pay code:resume=5
+perdure:{@dep}:names pay=<time>

tune 1 taken back
+perdure:{@dep}:events 1=set pay by ada: because (rate=10 -> rate=default)
-perdure:{@dep}:board pay
-perdure:{@dep}:d:pay rate
~perdure:{@dep}:names pay=<time>

vote 0
+perdure:{@dep}:names pay=<time>
+perdure:{@dep}:votes:pay o=<time> 5 0 5 0
+perdure:{@dep}:votes:pay ttl=set

vote 0 few have failed
+perdure:{@dep}:names pay=<time>
+perdure:{@dep}:votes:pay o=<time> 5 1 5 1
+perdure:{@dep}:votes:pay ttl=set

vote 0 it is open
+perdure:{@dep}:votes:pay o=<time> 5 5 5 5
+perdure:{@dep}:votes:pay ttl=set
~perdure:{@dep}:names pay=<time>

vote 1 the others are idle still
+perdure:{@dep}:board pay={"forced":false,"rate":0,"turn":1,"state":"open","throttled":0,"by":"perdure","reason":"5 of 5 calls failed, seen by 1 of 1 workers; the last one: refused","places":0,"since":<time>}
+perdure:{@dep}:d:pay by=perdure
+perdure:{@dep}:d:pay next=<time>
+perdure:{@dep}:d:pay probes=0
+perdure:{@dep}:d:pay reason=5 of 5 calls failed, seen by 1 of 1 workers; the last one: refused
+perdure:{@dep}:d:pay resumed=0
+perdure:{@dep}:d:pay since=<time>
+perdure:{@dep}:d:pay state=open
+perdure:{@dep}:d:pay turn=1
+perdure:{@dep}:events 0=open pay by perdure: 5 of 5 calls failed, seen by 1 of 1 workers; the last one: refused (closed -> open)
-perdure:{@dep}:votes:pay !alone
-perdure:{@dep}:votes:pay p
-perdure:{@dep}:votes:pay ttl
~perdure:{@dep}:names pay=<time>

vote 0 the others are idle
+perdure:{@dep}:votes:pay !alone=<time>
+perdure:{@dep}:votes:pay o=<time> 5 5 5 5
~perdure:{@dep}:names pay=<time>

vote 1
+perdure:{@dep}:board pay={"forced":false,"rate":0,"turn":1,"state":"open","throttled":0,"by":"perdure","reason":"5 of 5 calls failed, seen by 1 of 1 workers; the last one: refused","places":0,"since":<time>}
+perdure:{@dep}:d:pay by=perdure
+perdure:{@dep}:d:pay next=<time>
+perdure:{@dep}:d:pay probes=0
+perdure:{@dep}:d:pay reason=5 of 5 calls failed, seen by 1 of 1 workers; the last one: refused
+perdure:{@dep}:d:pay resumed=0
+perdure:{@dep}:d:pay since=<time>
+perdure:{@dep}:d:pay state=open
+perdure:{@dep}:d:pay turn=1
+perdure:{@dep}:events 0=open pay by perdure: 5 of 5 calls failed, seen by 1 of 1 workers; the last one: refused (closed -> open)
+perdure:{@dep}:names pay=<time>

vote 1 it recovers
+perdure:{@dep}:d:pay next=<time>
+perdure:{@dep}:events 2=open pay by perdure: 2 of 2 calls failed, seen by 1 of 1 workers; the last one: refused (recovering -> open)
-perdure:{@dep}:d:pay from
-perdure:{@dep}:d:pay start
~perdure:{@dep}:board pay={"forced":false,"rate":0,"turn":2,"state":"open","throttled":0,"by":"perdure","reason":"2 of 2 calls failed, seen by 1 of 1 workers; the last one: refused","places":0,"since":<time>}
~perdure:{@dep}:d:pay probes=0
~perdure:{@dep}:d:pay reason=2 of 2 calls failed, seen by 1 of 1 workers; the last one: refused
~perdure:{@dep}:d:pay since=<time>
~perdure:{@dep}:d:pay state=open
~perdure:{@dep}:d:pay turn=2
~perdure:{@dep}:names pay=<time>
`
