/**
 * Tests of Sytest that Greenroom fails, and why: at commit 404d274c of Sytest. The reasons, by the name of the test.
 *
 * Sytest makes rooms of version 10, or of the version in GREENROOM_ROOM_VERSION.
 */

const known = (reason: string, ...tests: ReadonlyArray<string>): ReadonlyArray<readonly [string, string]> =>
  tests.map((test) => [test, reason])

/** What fails in rooms of this version and later. */
const since = (version: number, reason: string, ...tests: ReadonlyArray<string>) =>
  Number(process.env.GREENROOM_ROOM_VERSION ?? "10") >= version ? known(reason, ...tests) : []

export const sytestKnownFailures: Readonly<Record<string, string>> = Object.fromEntries([
  // Accounts
  ...known("Not served: m.login.recaptcha", "Register with a recaptcha"),
  ...known(
    "Not served: CAS",
    "login types include SSO",
    "/login/cas/redirect redirects if the old m.login.cas login type is listed",
    "Can login with new user via CAS",
    "Interactive authentication types include SSO",
    "Can perform interactive authentication with SSO",
    "The user must be consistent through an interactive authentication session with SSO"
  ),
  ...known(
    "An earlier test gave the address to another account, which `requestToken` says in its mail alone: nobody else learns who has an account",
    "After deactivating account, can't log in with an email"
  ),
  // Keys
  ...known("`version` is a string", "Can update backup version"),
  ...known(
    "The first answer after the leave must have a change of keys that was made right after it",
    "If remote user leaves room we no longer receive device updates"
  ),
  // Rooms
  ...known(
    "Not served: events that expire (MSC2228)",
    "Ephemeral messages received from clients are correctly expired"
  ),
  ...known("Events have `sender`, not `user_id`", "Room initialSync"),
  ...since(11, "m.room.create has no `creator`", "Room creation reports m.room.create to myself"),
  ...since(12, "The power levels do not name the creator", "Global initialSync"),
  ...known(
    "403: a user who was never in the room has no initial sync of it",
    "New room members see first user's profile information in per-room initialSync"
  ),
  ...known(
    "Users who were banned read the state of then, as the specification has it for users who left",
    "Remote banned user is kicked and may not rejoin until unbanned"
  ),
  ...known(
    "The same kick again is a retry, and answered as the first",
    "Users cannot kick users who have already left a room"
  ),
  ...known(
    "Outsiders get the same answer for a private room and for one that does not exist: 403",
    "/upgrade of a bogus room fails gracefully"
  ),
  ...known(
    "The test syncs with `set_presence=offline`, so the user is offline",
    "New room members see existing users' presence in room initialSync"
  ),
  ...known(
    "An invitation from another server does not say that guests are let in",
    "Guest users can accept invites to private rooms over federation"
  ),
  ...known(
    "Presence has `sender`, not `content.user_id`",
    "New room members see first user's profile information in global initialSync",
    "Guest non-joined user can call /events on world_readable room",
    "Real non-joined user can call /events on world_readable room"
  ),
  ...known(
    "The predecessor is the last event before the tombstone, which names the new room and so comes after it",
    "/upgrade creates a new room"
  ),
  ...known(
    "A user without an avatar has no `avatar_url`: it is a string, says the specification, and not null",
    "GET /rooms/:room_id/joined_members fetches my membership"
  ),
  ...known("No user agents are kept", "/whois"),
  ...known("The certificate of the web server is signed by itself", "Test URL preview"),
  ...known(
    "The client port has no federation endpoints",
    "Can generate a openid access_token that can be exchanged for information about a user",
    "Invalid openid access tokens are rejected",
    "Requests to userinfo without access tokens are rejected"
  ),
  ...known(
    "Its identity server calls `3pid/onbind` at the client port, which has no federation endpoints; one of them sends an empty `from`",
    "Can invite unbound 3pid",
    "Can invite unbound 3pid over federation",
    "Can invite unbound 3pid with no ops into a private room",
    "Can invite unbound 3pid over federation with no ops into a private room",
    "Can invite unbound 3pid over federation with users from both servers",
    "Can accept unbound 3pid invite after inviter leaves"
  ),
  ...known(
    "Application services are asked each time, and here give nothing the second time",
    "HS can provide query metadata on a single protocol"
  ),
  // Push
  ...known(
    "The rule by which a user ID in the text is a mention was removed from the specification",
    "Don't get pushed for rooms you've muted"
  ),
  ...known(
    "The receiver of the test before still takes notifications",
    "Rejected events are not pushed",
    "Invites over federation are correctly pushed",
    "Invites over federation are correctly pushed with name",
    "Test that rejected pushers are removed."
  ),
  ...known("`profile_tag` is left out: no rule has one", "Notifications can be viewed with GET /notifications"),
  ...known(
    "A path that there is not is M_UNRECOGNIZED with 404 or 405",
    "Trying to add push rule with no scope fails with 400",
    "Trying to add push rule with invalid scope fails with 400",
    "Trying to add push rule with missing template fails with 400",
    "Trying to add push rule with missing rule_id fails with 400",
    "Trying to add push rule with empty rule_id fails with 400",
    "Trying to add push rule with invalid attr fails with 400",
    "Trying to get push rules with unknown scope fails with 400",
    "Trying to get push rules with unknown attribute fails with 400"
  ),
  ...known("M_NOT_FOUND for a kind that there is not", "Trying to get push rules with unknown template fails with 400"),
  ...known(
    "A slash at the end of a path makes no difference",
    "Trying to get push rules with no trailing slash fails with 404",
    "Trying to get push rules with scope without trailing slash fails with 400",
    "Trying to get push rules with template without tailing slash fails with 400"
  ),
  // Sync
  ...known(
    "The state that changed while a user was out of the room comes in `state` where the timeline does not reach so far back",
    "Current state appears in timeline in private history with many messages after"
  ),
  ...known(
    "The members who wrote what is in the timeline come along, which the client has not seen yet",
    "The only membership state included in a gapped incremental sync is for senders in the timeline"
  ),
  ...known(
    "An event in the format of federation is as servers get it: without `event_id` in rooms of version 3 and later",
    "Can request federation format via the filter"
  ),
  ...known(
    "Not served: /peek (MSC2753)",
    "Local users can peek into world_readable rooms by room ID",
    "We can't peek into rooms with shared history_visibility",
    "We can't peek into rooms with invited history_visibility",
    "We can't peek into rooms with joined history_visibility",
    "Local users can peek by room alias",
    "Peeked rooms only turn up in the sync for the device who peeked them"
  ),
  ...known(
    "A user who was never active has no `last_active_ago`",
    "Newly created users see their own presence in /initialSync (SYT-34)"
  ),
  ...known("`GET /events` has no `limit`", "GET /events with non-numeric 'limit'", "GET /events with negative 'limit'"),
  // Federation
  ...since(
    12,
    "The server that Sytest plays knows the versions up to 11, and is told M_INCOMPATIBLE_ROOM_VERSION",
    "Inbound /make_join rejects attempts to join rooms where all users have left",
    "Inbound /v1/send_join rejects incorrectly-signed joins",
    "Inbound /v1/send_join rejects joins from other servers",
    "Inbound federation can receive events",
    "Inbound federation can receive redacted events",
    "Events whose auth_events are in the wrong room do not mess up the room state",
    "Inbound federation can return events",
    "Inbound federation redacts events from erased users",
    "outliers whose auth_events are in a different room are correctly rejected",
    "Backfill checks the events requested belong to the room",
    "Backfilled events whose prev_events are in a different room do not allow cross-room back-pagination",
    "Inbound /v1/send_leave rejects leaves from other servers",
    "Inbound federation can get state for a room",
    "Inbound federation can get state_ids for a room",
    "Federation rejects inbound events where the prev_events cannot be found",
    "/state returns M_NOT_FOUND for a rejected message event",
    "/state_ids returns M_NOT_FOUND for a rejected message event",
    "Room state after a rejected message event is the same as before",
    "/state returns M_NOT_FOUND for a rejected state event",
    "/state_ids returns M_NOT_FOUND for a rejected state event",
    "Room state after a rejected state event is the same as before",
    "Inbound federation can get public room list",
    "Outbound federation sends receipts",
    "Inbound federation rejects receipts from wrong remote",
    "An event which redacts an event in a different room should be ignored",
    "Server correctly resyncs when client query keys and there is no remote cache",
    "Server correctly resyncs when server leaves and rejoins a room",
    "Device list doesn't change if remote server is down",
    "Inbound federation rejects typing notifications from wrong remote",
    "Banned servers cannot send events",
    "Banned servers cannot /make_join",
    "Banned servers cannot /send_join",
    "Banned servers cannot /make_leave",
    "Banned servers cannot /send_leave",
    "Banned servers cannot get room state",
    "Banned servers cannot get room state ids",
    "Banned servers cannot backfill",
    "Banned servers cannot /event_auth",
    "Banned servers cannot get missing events",
    "Server correctly handles transactions that break edu limits",
    "Inbound federation correctly soft fails events",
    "Inbound federation accepts a second soft-failed event",
    "Inbound federation correctly handles soft failed events as extremities"
  ),
  ...known(
    "The event that is to be an outlier follows what is known here, so it has its place in the graph",
    "/state returns M_NOT_FOUND for an outlier",
    "/state_ids returns M_NOT_FOUND for an outlier",
    "Forward extremities remain so even after the next events are populated as outliers"
  ),
  ...known(
    "A server whose keys were of no use is asked for them less and less often: here after the test before",
    "Key notary server must not overwrite a valid key with a spurious result from the origin server"
  ),
  ...known(
    "Users who do not exist cannot be invited: whoever registers the name later would have the invitation",
    "Banned servers cannot /invite"
  ),
  ...known(
    "The error codes of other servers that the specification does not name are not passed on",
    "Outbound federation passes make_join failures through to the client"
  ),
  ...known(
    "A template that is no event of the version that it is said to have is not signed; the test waits for `send_join`",
    "Outbound federation rejects m.room.create events with an unknown room version"
  ),
  ...known(
    "Not served: events that expire (MSC2228)",
    "Ephemeral messages received from servers are correctly expired"
  ),
  ...known(
    "A user's own presence is in the first answer of /sync, and not given again",
    "New federated private chats get full presence information (SYN-115)"
  )
])
