/** Tests of Sytest that Greenroom fails, and why: at commit 404d274c of Sytest. The reasons, by the name of the test. */

const known = (reason: string, ...tests: ReadonlyArray<string>): ReadonlyArray<readonly [string, string]> =>
  tests.map((test) => [test, reason])

export const sytestKnownFailures: Readonly<Record<string, string>> = Object.fromEntries([
  // Accounts
  ...known(
    "401 with the flows, as the specification has it for a stage that fails",
    "The operation must be consistent through an interactive authentication session"
  ),
  ...known("Not served: m.login.recaptcha", "Register with a recaptcha"),
  ...known("A session that has ended begins anew", "registration is idempotent, without username specified"),
  ...known("M_USER_IN_USE for a name that is taken", "registration is idempotent, with username specified"),
  ...known(
    "The specification has the client repeat the whole request with each stage",
    "registration remembers parameters",
    "registration accepts non-ascii passwords",
    "registration with inhibit_login inhibits login"
  ),
  ...known(
    "Opening the link in the mail is not enough: the page has a button, since programs open links too",
    "Can register using an email address",
    "Can login with 3pid and password using m.login.password"
  ),
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
    "Identity servers are named in the settings; those of the tests have a new port each time",
    "Can invite existing 3pid",
    "Can invite existing 3pid with no ops into a private room",
    "Can invite existing 3pid in createRoom",
    "Can invite unbound 3pid",
    "Can invite unbound 3pid over federation",
    "Can invite unbound 3pid with no ops into a private room",
    "Can invite unbound 3pid over federation with no ops into a private room",
    "Can invite unbound 3pid over federation with users from both servers",
    "Can accept unbound 3pid invite after inviter leaves",
    "Can accept third party invite with /join"
  ),
  // Rooms
  ...known(
    "prev_batch of a whole timeline is before the first event",
    "GET /rooms/:room_id/messages returns a message",
    "GET /rooms/:room_id/messages lazy loads members correctly"
  ),
  ...known(
    "Not served: events that expire (MSC2228)",
    "Ephemeral messages received from clients are correctly expired"
  ),
  ...known("Events have `sender`, not `user_id`", "Room initialSync"),
  ...known(
    "403: a user who was never in the room has no initial sync of it",
    "New room members see first user's profile information in per-room initialSync"
  ),
  ...known(
    "Users who were banned read the state of then, as the specification has it for users who left",
    "Remote banned user is kicked and may not rejoin until unbanned"
  ),
  ...known(
    "M_NOT_FOUND for an event that the room does not have",
    "PUT /redact disallows redaction of event in different room"
  ),
  ...known(
    "The same kick again is a retry, and answered as the first",
    "Users cannot kick users who have already left a room"
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
  ...known("The new room has no m.room.guest_access where the old one has none", "/upgrade creates a new room"),
  ...known("M_FORBIDDEN for a room that the user is not in", "/upgrade of a bogus room fails gracefully"),
  // Sync
  ...known("Who did not hear that somebody types is not told that they stopped", "Typing can be explicitly stopped"),
  ...known(
    "All events fit, so the timeline is not limited",
    "Newly joined room has correct timeline in incremental sync"
  ),
  ...known(
    "A room whose events are filtered out comes with its counts",
    "A change to displayname should not result in a full state sync"
  ),
  ...known(
    "Every change that a user makes counts as activity, so the user is online",
    "User sees updates to presence from other users in the incremental sync."
  ),
  ...known("The first sync has the presence already", "User sees their own presence in a sync"),
  ...known("`ephemeral` is left out where it is empty", "Can request federation format via the filter"),
  ...known(
    "Members who wrote what is in the timeline come along, also those that were sent before",
    "The only membership state included in a gapped incremental sync is for senders in the timeline",
    "Gapped incremental syncs include all state changes",
    "Old leaves are present in gapped incremental syncs",
    "We don't send redundant membership state across incremental syncs by default"
  ),
  ...known(
    "`m.heroes` is there for rooms with a name too",
    "Named room comes with just joined member count summary",
    "Room summary counts change when membership changes"
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
    "The presence is given by events, from when the user is connected",
    "Newly created users see their own presence in /initialSync (SYT-34)"
  ),
  ...known(
    "A device without keys is in no device list",
    "Local new device changes appear in v2 /sync",
    "Local delete device changes appear in v2 /sync",
    "Local update device changes appear in v2 /sync"
  ),
  // Federation
  ...known(
    "The event that is to be an outlier follows what is known here, so it has its place in the graph",
    "/state returns M_NOT_FOUND for an outlier",
    "/state_ids returns M_NOT_FOUND for an outlier",
    "Forward extremities remain so even after the next events are populated as outliers"
  ),
  ...known(
    "An event whose auth events are of another room is not taken, nor what follows it",
    "outliers whose auth_events are in a different room are correctly rejected"
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
