/** Invitations by email, with home servers, an identity server and a mail server on loopback. */
import { assert, layer } from "@effect/vitest"
import { onBindPath } from "@greenroom/protocol/identity/OnBind"
import type { JsonObject } from "@greenroom/protocol/Json"
import { generateSigningKey, type SigningKey, signJson } from "@greenroom/room/Signing"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Effect, Layer, Result } from "effect"
import { IdentityHttp } from "../../apps/identity/src/IdentityHttp.ts"
import { Mailbox } from "../../apps/identity/test/support/Mailbox.ts"
import {
  ask,
  askUrl,
  serverName as identityName,
  identityWith,
  lookup,
  requestMail,
  takeLink
} from "../../apps/identity/test/support/TestIdentity.ts"
import { ask as askOverTls } from "../../packages/gateway/test/federation/support/TestServer.ts"
import {
  createRoom,
  type Home,
  Homes,
  inviterOf,
  join,
  membershipOf,
  type Person,
  person
} from "./support/TestHomes.ts"

const inviteAddress = ({ request }: Person, roomId: string, address: string, more: object = {}) =>
  request("POST", `/rooms/${encodeURIComponent(roomId)}/invite`, { medium: "email", address, ...more })

/** Opens the link of the next mail and submits the form of its page. */
const confirmByLink = Effect.gen(function* () {
  const { client_secret, mail, path, sid } = yield* takeLink
  const page = yield* ask("GET", path)
  const action = /<form method="post" action="([^"]+)">/.exec(page.text)![1]!.replaceAll("&amp;", "&")
  const confirmed = yield* ask("POST", `${path.slice(0, path.lastIndexOf("/"))}/${action}`, "")
  assert.strictEqual(confirmed.status, 200, confirmed.text)
  return { mail, session: { sid, client_secret } }
})

/** Validates an address by its mail and adds it to the account. */
const addAddress = Effect.fnUntraced(function* ({ request }: Person, address: string) {
  yield* requestMail(address, `secret-${address.replace(/[^a-z]/g, "")}`)
  const { session } = yield* confirmByLink
  const added = yield* request("POST", "/account/3pid", session)
  assert.strictEqual(added.status, 200, added.text)
  return session
})

const takeMail = Mailbox.use(({ take }) => take)
const waitingMails = Mailbox.use(({ waiting }) => waiting)

/** The token of the invitation that the home server stores. */
const tokenFor = ({ sql }: Home, roomId: string) =>
  Effect.map(
    Effect.orDie(sql<{ token: string }>`SELECT token FROM third_party_invites WHERE room_id = ${roomId}`),
    ([row]) => row!.token
  )

interface Claim {
  readonly token: string
  readonly mxid: string
  readonly roomId: string
  readonly sender: string
  /** The user for whom it is signed, if not `mxid`. */
  readonly signedFor?: string
  /** The key that signs it, if not that of the identity server. */
  readonly key?: SigningKey
}

/** Notifies a home server of a binding, as an identity server does. Returns the status and error code of the answer. */
const notify = Effect.fnUntraced(function* (home: Home, { key, mxid, roomId, sender, signedFor = mxid, token }: Claim) {
  const signed = signJson({ mxid: signedFor, token } as JsonObject, key ?? (yield* (yield* SigningKeys).current))
  const [medium, address] = ["email", "someone@example.org"]
  const invite = { medium, address, mxid, room_id: roomId, sender, signed: Result.getOrThrow(signed) }
  const body = JSON.stringify({ medium, address, mxid, invites: [invite] })
  const answer = yield* askOverTls({ port: home.port, method: "POST", path: onBindPath, body })
  return `${answer.status} ${answer.body.errcode ?? ""}`.trim()
})

const identity = identityWith({ identity: { privateAddresses: true, verifyCertificates: false } })

layer(Homes.layer.pipe(Layer.provideMerge(identity)), { excludeTestServices: true })("invitations by email", (it) => {
  it.effect("a new user who is invited by mail registers, adds the address and joins the room", () =>
    Effect.gen(function* () {
      const { red } = yield* Homes
      const alice = yield* person(red, "alice")
      const roomId = yield* createRoom(alice, { name: "The Green Room" })
      const sent = yield* inviteAddress(alice, roomId, "Bob@Mail.example", {
        id_server: new URL((yield* IdentityHttp).url).host
      })
      assert.strictEqual(sent.status, 200, sent.text)
      const mail = yield* takeMail
      assert.deepStrictEqual(mail.to, ["bob@mail.example"])
      assert.include(mail.text, "The Green Room")

      const bob = yield* person(red, "bob")
      yield* requestMail("bob@mail.example", "bobs-secret")
      const { client_secret, sid } = yield* takeLink
      const early = yield* bob.request("POST", "/account/3pid", { sid, client_secret })
      assert.strictEqual(early.body.errcode, "M_SESSION_NOT_VALIDATED")
      yield* requestMail("bob@mail.example", "bobs-secret", 2)
      const { session } = yield* confirmByLink
      const added = yield* bob.request("POST", "/account/3pid", { three_pid_creds: session })
      assert.strictEqual(added.status, 200, added.text)
      assert.strictEqual(yield* inviterOf(bob, roomId), alice.userId)
      assert.strictEqual((yield* join(bob, roomId)).status, 200)
      assert.strictEqual(yield* membershipOf(alice, roomId, bob.userId), "join")

      const { threepids } = (yield* bob.request("GET", "/account/3pid")).body as unknown as {
        threepids: ReadonlyArray<{ medium: string; address: string; validated_at: number }>
      }
      assert.deepStrictEqual(
        threepids.map(({ address, medium }) => [medium, address]),
        [["email", "bob@mail.example"]]
      )
      assert.strictEqual((yield* lookup("bob@mail.example")).mxid, bob.userId)
    })
  )

  it.effect("an invitation of a bound address invites its user at once, without a mail", () =>
    Effect.gen(function* () {
      const { red } = yield* Homes
      const [alice, carol] = [yield* person(red, "alice-2"), yield* person(red, "carol")]
      yield* addAddress(carol, "carol@mail.example")
      const roomId = yield* createRoom(alice)
      assert.strictEqual((yield* inviteAddress(alice, roomId, "carol@mail.example")).status, 200)
      assert.strictEqual(yield* membershipOf(alice, roomId, carol.userId), "invite")
      assert.strictEqual(yield* waitingMails, 0)
    })
  )

  for (const version of ["default", "1", "11", "12"]) {
    it.effect(`an invited user may be on another server (room version ${version})`, () =>
      Effect.gen(function* () {
        const { blue, red } = yield* Homes
        const [alice, dave] = [yield* person(red, `alice-${version}`), yield* person(blue, `dave-${version}`)]
        const roomId = yield* createRoom(alice, version === "default" ? {} : { room_version: version })
        yield* inviteAddress(alice, roomId, `dave-${version}@mail.example`)
        yield* takeMail
        yield* addAddress(dave, `dave-${version}@mail.example`)
        assert.strictEqual(yield* inviterOf(dave, roomId), alice.userId)
        const joined = yield* join(dave, roomId)
        assert.strictEqual(joined.status, 200, joined.text)
        assert.strictEqual(yield* membershipOf(alice, roomId, dave.userId), "join")
      })
    )
  }

  it.effect("a home server refuses forged signatures, and those for other users, rooms and senders", () =>
    Effect.gen(function* () {
      const { blue, red } = yield* Homes
      const [alice, mallory] = [yield* person(red, "alice-4"), yield* person(red, "mallory")]
      const [roomId, otherRoom] = [yield* createRoom(alice), yield* createRoom(alice)]
      yield* inviteAddress(alice, roomId, "erin@mail.example")
      yield* takeMail
      const token = yield* tokenFor(red, roomId)
      const claim: Claim = { token, mxid: mallory.userId, roomId, sender: alice.userId }
      const { keyId } = yield* (yield* SigningKeys).current
      const gone = yield* person(red, "gone-4")
      const auth = {
        type: "m.login.password",
        password: "secret",
        identifier: { type: "m.id.user", user: gone.userId }
      }
      const deactivation = yield* askUrl(
        "POST",
        `${red.url}/_matrix/client/v3/account/deactivate`,
        { auth },
        { authorization: `Bearer ${gone.token}` }
      )
      assert.strictEqual(deactivation.status, 200, deactivation.text)
      const refusals = [
        { ...claim, key: generateSigningKey(identityName, keyId) },
        { ...claim, mxid: gone.userId },
        { ...claim, signedFor: "@erin:elsewhere.test" },
        { ...claim, token: `${token}x` },
        { ...claim, roomId: otherRoom },
        { ...claim, sender: mallory.userId },
        { ...claim, mxid: `@nobody:${red.serverName}` },
        { ...claim, mxid: "@erin:elsewhere.test" }
      ]
      for (const refused of refusals) {
        assert.strictEqual(yield* notify(red, refused), "403 M_FORBIDDEN", JSON.stringify(refused.mxid))
      }
      const onBlue = yield* person(blue, "mallory")
      const forged = { ...claim, mxid: onBlue.userId, key: generateSigningKey(identityName, keyId) }
      assert.strictEqual(yield* notify(blue, forged), "403 M_FORBIDDEN")
      for (const body of ["", "[]", '{"mxid":1}', `"${"x".repeat(300_000)}"`]) {
        const { status } = yield* askOverTls({ port: red.port, method: "POST", path: onBindPath, body })
        assert.include([400, 413], status)
      }
      for (const room of [roomId, otherRoom]) {
        assert.strictEqual(yield* membershipOf(alice, room, mallory.userId), 404)
      }
    })
  )

  it.effect("a user who brings what the identity server signed joins without the address in the account", () =>
    Effect.gen(function* () {
      const { blue, red } = yield* Homes
      const alice = yield* person(red, "alice-link")
      const key = yield* (yield* SigningKeys).current
      for (const home of [red, blue]) {
        const [lena, thief] = [yield* person(home, "lena"), yield* person(home, "thief")]
        const roomId = yield* createRoom(alice, { room_version: "11" })
        yield* inviteAddress(alice, roomId, `lena-${home.port}@mail.example`)
        yield* takeMail
        const token = yield* tokenFor(red, roomId)
        const proofFor = (user: Person, by: SigningKey) =>
          Result.getOrThrow(signJson({ mxid: user.userId, sender: alice.userId, token } as JsonObject, by))
        const joinWith = (user: Person, third_party_signed: unknown) =>
          askUrl(
            "POST",
            `${home.url}/_matrix/client/v3/join/${encodeURIComponent(roomId)}`,
            { third_party_signed },
            { authorization: `Bearer ${user.token}` }
          )
        const forged = proofFor(thief, generateSigningKey(identityName, key.keyId))
        for (const [proof, errcode] of [
          [forged, "M_FORBIDDEN"],
          [proofFor(lena, key), "M_FORBIDDEN"],
          [{ ...proofFor(lena, key), mxid: thief.userId }, "M_FORBIDDEN"],
          ["proof", "M_BAD_JSON"],
          [{ mxid: thief.userId }, "M_BAD_JSON"]
        ] as const) {
          assert.strictEqual((yield* joinWith(thief, proof)).body.errcode, errcode)
        }
        const joined = yield* joinWith(lena, proofFor(lena, key))
        assert.strictEqual(joined.status, 200, joined.text)
        assert.strictEqual(yield* membershipOf(alice, roomId, lena.userId), "join")
      }
    })
  )

  it.effect("a user who declined is not invited again by a repeated notification", () =>
    Effect.gen(function* () {
      const { red } = yield* Homes
      const [alice, frank] = [yield* person(red, "alice-5"), yield* person(red, "frank")]
      const roomId = yield* createRoom(alice)
      yield* inviteAddress(alice, roomId, "frank@mail.example")
      yield* takeMail
      const claim: Claim = {
        token: yield* tokenFor(red, roomId),
        mxid: frank.userId,
        roomId,
        sender: alice.userId
      }
      const repeats = yield* Effect.all(
        Array.from({ length: 4 }, () => notify(red, claim)),
        { concurrency: "unbounded" }
      )
      for (const outcome of repeats) assert.include(["200", "429 M_LIMIT_EXCEEDED"], outcome)
      assert.include(repeats, "200")
      assert.strictEqual(yield* membershipOf(alice, roomId, frank.userId), "invite")
      yield* frank.request("POST", `/rooms/${encodeURIComponent(roomId)}/leave`, {})
      assert.strictEqual(yield* notify(red, claim), "200")
      assert.strictEqual(yield* membershipOf(alice, roomId, frank.userId), "leave")
      const other = yield* person(red, "frank-2")
      assert.strictEqual(yield* notify(red, { ...claim, mxid: other.userId }), "403 M_FORBIDDEN")
    })
  )

  it.effect("an invitation is refused when its sender has left the room before the address is bound", () =>
    Effect.gen(function* () {
      const { red } = yield* Homes
      const [alice, grace] = [yield* person(red, "alice-6"), yield* person(red, "grace")]
      const roomId = yield* createRoom(alice)
      yield* inviteAddress(alice, roomId, "grace@mail.example")
      yield* takeMail
      yield* alice.request("POST", `/rooms/${encodeURIComponent(roomId)}/leave`, {})
      const claim = { token: yield* tokenFor(red, roomId), mxid: grace.userId, roomId, sender: alice.userId }
      assert.strictEqual(yield* notify(red, claim), "403 M_FORBIDDEN")
      assert.include([403, 404], (yield* join(grace, roomId)).status)
    })
  )

  it.effect(
    "mails are sent only for members who may invite, by trusted identity servers, and once per transaction",
    () =>
      Effect.gen(function* () {
        const { red } = yield* Homes
        const [alice, heidi] = [yield* person(red, "alice-7"), yield* person(red, "heidi")]
        const roomId = yield* createRoom(alice)
        const room = `/rooms/${encodeURIComponent(roomId)}`
        assert.strictEqual((yield* inviteAddress(heidi, roomId, "ivan@mail.example")).body.errcode, "M_FORBIDDEN")
        yield* alice.request("POST", `${room}/invite`, { user_id: heidi.userId })
        yield* join(heidi, roomId)
        const levels = (yield* alice.request("GET", `${room}/state/m.room.power_levels`)).body
        yield* alice.request("PUT", `${room}/state/m.room.power_levels`, { ...levels, invite: 60 })
        assert.strictEqual((yield* inviteAddress(heidi, roomId, "ivan@mail.example")).body.errcode, "M_FORBIDDEN")
        for (const id_server of ["evil.example", "127.0.0.1:1", "http://127.0.0.1:1"]) {
          const answer = yield* inviteAddress(alice, roomId, "ivan@mail.example", { id_server })
          assert.strictEqual(answer.body.errcode, "M_SERVER_NOT_TRUSTED")
        }
        for (const address of ["ivan", "ivan@mail.example\r\nBcc: x@y.example", ""]) {
          assert.strictEqual((yield* inviteAddress(alice, roomId, address)).body.errcode, "M_BAD_JSON")
        }
        assert.strictEqual(yield* waitingMails, 0)
        for (let i = 0; i < 3; i++) {
          const content = { medium: "email", address: "ivan@mail.example" }
          assert.strictEqual((yield* alice.request("PUT", `${room}/invite/once`, content)).status, 200)
        }
        assert.deepStrictEqual((yield* takeMail).to, ["ivan@mail.example"])
        assert.strictEqual(yield* waitingMails, 0)
      })
  )

  it.effect("an address belongs to one account, which can remove it", () =>
    Effect.gen(function* () {
      const { red } = yield* Homes
      const [judy, kim] = [yield* person(red, "judy"), yield* person(red, "kim")]
      const session = yield* addAddress(judy, "judy@mail.example")
      assert.strictEqual((yield* kim.request("POST", "/account/3pid", session)).body.errcode, "M_FORBIDDEN")
      assert.strictEqual((yield* lookup("judy@mail.example")).mxid, judy.userId)
      const address = { medium: "email", address: "Judy@mail.example" }
      assert.strictEqual((yield* kim.request("POST", "/account/3pid/delete", address)).status, 404)
      const removed = yield* judy.request("POST", "/account/3pid/delete", { ...address, ...session })
      assert.strictEqual(removed.status, 200, removed.text)
      assert.deepStrictEqual((yield* judy.request("GET", "/account/3pid")).body, { threepids: [] } as never)
      assert.isUndefined((yield* lookup("judy@mail.example")).mxid)
    })
  )
})
