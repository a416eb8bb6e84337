/** Scenes of users of two servers in one room. Each runs in every room version, with each of the servers as the founder of the room. */
import { setTimeout as delay } from "node:timers/promises"
import type { Body } from "../../support/Curl.ts"
import type { Person } from "../synapse/Person.ts"
import type { Server } from "./Server.ts"

/** The two sides of a scene. */
export interface Stage {
  readonly version: number
  readonly founder: Server
  readonly other: Server
  /** New users of the founder and of the other server. */
  readonly alice: Person
  readonly bob: Person
  /** A part of names, unique to the scene. */
  readonly tag: string
}

export interface Scene {
  readonly name: string
  /** The first room version that supports it. */
  readonly since?: number
  /** Whether it runs in one room version only: the newest that is wanted and that both servers support. */
  readonly isOnce?: boolean
  /** Whether `--short` omits it. */
  readonly isLong?: boolean
  readonly run: (stage: Stage) => Promise<void>
}

/** The time limit of {@link until}, in steps of 100 ms. */
const steps = 200

export const until = async (what: string, holds: () => Promise<boolean>): Promise<void> => {
  for (let step = 0; step < steps; step++) {
    if (await holds().catch(() => false)) return
    await delay(100)
  }
  throw new Error(`Not within ${steps / 10} seconds: ${what}`)
}

const refused = async (what: string, attempt: Promise<unknown>): Promise<void> => {
  const result = await attempt.then(
    () => "allowed",
    (error: Error) => error.message
  )
  if (result === "allowed") throw new Error(`It should have been refused: ${what}`)
  if (/: 5[0-9][0-9] /.test(result)) throw new Error(`Refused with a failure: ${what}: ${result}`)
}

const membershipOf = async (viewer: Person, room: string, whom: Person): Promise<string | undefined> =>
  (await viewer.content(room, "m.room.member", whom.id)).membership

export const sees = (viewer: Person, room: string, whom: Person, membership: string) =>
  until(`${viewer.id} sees ${whom.id} as ${membership}`, async () => {
    return (await membershipOf(viewer, room, whom)) === membership
  })

export const hasState = (
  viewer: Person,
  room: string,
  type: string,
  holds: (content: Body) => boolean,
  stateKey = ""
) => until(`${viewer.id} sees ${type}`, async () => holds(await viewer.content(room, type, stateKey)))

const isInvited = (person: Person, room: string) =>
  until(`${person.id} is invited`, async () => {
    const { rooms } = await person.call("GET", "sync?timeout=0")
    return rooms?.invite?.[room]?.invite_state?.events?.length > 0
  })

/** Sends a message from each user, and waits until both have both. */
export const exchangeMessages = async (room: string, a: Person, b: Person): Promise<void> => {
  const fromA = await a.sendText(room, `from ${a.id}`)
  await until(`${b.id} receives the message of ${a.id}`, () => b.has(room, fromA))
  const fromB = await b.sendText(room, `from ${b.id}`)
  await until(`${a.id} receives the message of ${b.id}`, () => a.has(room, fromB))
}

export const createRoom = ({ alice, version }: Stage, options: object = {}): Promise<string> =>
  alice.createRoom({ preset: "public_chat", room_version: `${version}`, ...options })

/** Creates a public room that both users have joined. */
export const sharedRoom = async (stage: Stage, options: object = {}): Promise<string> => {
  const room = await createRoom(stage, options)
  await stage.bob.join(room, stage.founder.name)
  await sees(stage.alice, room, stage.bob, "join")
  return room
}

export const idsOf = async (person: Person, room: string): Promise<ReadonlyMap<string, string>> =>
  new Map(
    (await person.state(room)).map((event: Body): [string, string] => [
      `${event.type} ${event.state_key}`,
      event.event_id
    ])
  )

/** Waits until both sides have the same state. */
export const assertSameState = async (room: string, a: Person, b: Person): Promise<void> => {
  let differing = ""
  await until(`both have the same state`, async () => {
    const [ofA, ofB] = await Promise.all([idsOf(a, room), idsOf(b, room)])
    const keys = new Set([...ofA.keys(), ...ofB.keys()])
    differing = [...keys].filter((key) => ofA.get(key) !== ofB.get(key)).join(", ")
    return differing === ""
  }).catch(() => {
    throw new Error(`The two sides differ in: ${differing}`)
  })
}

export const messagesOf = async (person: Person, room: string): Promise<ReadonlyArray<string>> => {
  const found: Array<string> = []
  let from = ""
  for (let page = 0; page < 100; page++) {
    const query = `dir=b&limit=50${from === "" ? "" : `&from=${encodeURIComponent(from)}`}`
    const { chunk, end } = await person.call("GET", `rooms/${encodeURIComponent(room)}/messages?${query}`)
    for (const event of chunk) if (event.type === "m.room.message" && event.content.body) found.push(event.content.body)
    if (end === undefined || end === from) return found.reverse()
    from = end
  }
  return found.reverse()
}

/** Follows the ephemeral events of a room by /sync. Returns the last content of a type. */
const followEphemeral = async (viewer: Person, room: string): Promise<(type: string) => Promise<Body | undefined>> => {
  const last = new Map<string, Body>()
  let since = ""
  const next = async () => {
    const answer = await viewer.call(
      "GET",
      `sync?timeout=0${since === "" ? "" : `&since=${encodeURIComponent(since)}`}`
    )
    since = answer.next_batch
    for (const event of answer.rooms?.join?.[room]?.ephemeral?.events ?? []) last.set(event.type, event.content)
  }
  await next()
  return async (type) => {
    await next()
    return last.get(type)
  }
}

/** Runs actions on both sides while neither server reaches the other. */
export const duringPartition = async (
  { founder, other }: Stage,
  onFounder: () => Promise<unknown>,
  onOther: () => Promise<unknown>
) => {
  await Promise.all([founder.link.down(), other.link.down()])
  try {
    await onFounder()
    await onOther()
  } finally {
    await Promise.all([founder.link.up(), other.link.up()])
    await delay(1_000)
  }
}

export const scenes: ReadonlyArray<Scene> = [
  {
    name: "invite, join, messages",
    run: async (stage) => {
      const { alice, bob, founder } = stage
      const room = await createRoom(stage, { preset: "private_chat", name: "Invited", invite: [] })
      await refused("joining without an invitation", bob.join(room, founder.name))
      await alice.invite(room, bob)
      await isInvited(bob, room)
      await bob.join(room, founder.name)
      await exchangeMessages(room, alice, bob)
      await hasState(bob, room, "m.room.name", ({ name }) => name === "Invited")
      await assertSameState(room, alice, bob)
    }
  },
  {
    name: "invite at creation, reject",
    run: async (stage) => {
      const { alice, bob } = stage
      const room = await createRoom(stage, { preset: "private_chat", invite: [bob.id] })
      await isInvited(bob, room)
      await bob.leave(room)
      await sees(alice, room, bob, "leave")
    }
  },
  {
    name: "join by alias, leave, join again",
    run: async (stage) => {
      const { alice, bob, founder, tag } = stage
      const room = await createRoom(stage, { room_alias_name: `alias${tag}` })
      await bob.call("POST", `join/${encodeURIComponent(`#alias${tag}:${founder.name}`)}`, {})
      await exchangeMessages(room, alice, bob)
      await bob.leave(room)
      await sees(alice, room, bob, "leave")
      await bob.join(room, founder.name)
      await sees(alice, room, bob, "join")
      await exchangeMessages(room, alice, bob)
    }
  },
  {
    name: "restricted join",
    since: 8,
    run: async (stage) => {
      const { alice, bob, founder, version } = stage
      const club = await sharedRoom(stage)
      const room = await createRoom(stage, {
        preset: "private_chat",
        initial_state: [
          {
            type: "m.room.join_rules",
            state_key: "",
            content: { join_rule: "restricted", allow: [{ type: "m.room_membership", room_id: club }] }
          }
        ]
      })
      await bob.join(room, founder.name)
      await exchangeMessages(room, alice, bob)
      const outsider = await stage.other.person(`outsider${stage.tag}v${version}`)
      await refused("joining a restricted room from outside", outsider.join(room, founder.name))
    }
  },
  {
    name: "knock",
    since: 7,
    run: async (stage) => {
      const { alice, bob, founder } = stage
      const room = await createRoom(stage, {
        preset: "private_chat",
        initial_state: [{ type: "m.room.join_rules", state_key: "", content: { join_rule: "knock" } }]
      })
      await bob.knock(room, founder.name)
      await sees(alice, room, bob, "knock")
      await alice.invite(room, bob)
      await isInvited(bob, room)
      await bob.join(room, founder.name)
      await exchangeMessages(room, alice, bob)
    }
  },
  {
    name: "kick, ban, unban",
    run: async (stage) => {
      const { alice, bob, founder } = stage
      const room = await sharedRoom(stage)
      const carl = await stage.other.person(`carl${stage.tag}`)
      await carl.join(room, founder.name)
      await sees(alice, room, carl, "join")
      await alice.kick(room, carl)
      await sees(bob, room, carl, "leave")
      await carl.join(room, founder.name)
      await sees(alice, room, carl, "join")
      await alice.ban(room, carl)
      await sees(bob, room, carl, "ban")
      await refused("sending while banned", carl.sendText(room, "no"))
      await refused("joining while banned", carl.join(room, founder.name))
      await alice.unban(room, carl)
      await sees(bob, room, carl, "leave")
      await carl.join(room, founder.name)
      await sees(alice, room, carl, "join")
      await assertSameState(room, alice, bob)
    }
  },
  {
    name: "redact",
    run: async (stage) => {
      const { alice, bob } = stage
      const room = await sharedRoom(stage)
      const [one, two] = [await alice.sendText(room, "wrong"), await bob.sendText(room, "wrong too")]
      await until("both have both", async () => (await bob.has(room, one)) && (await alice.has(room, two)))
      await alice.redact(room, one)
      await alice.redact(room, two)
      const isRedacted = async (viewer: Person, id: string) => {
        const event = await viewer.call("GET", `rooms/${encodeURIComponent(room)}/event/${encodeURIComponent(id)}`)
        return event.content.body === undefined
      }
      for (const viewer of [alice, bob]) {
        for (const id of [one, two]) await until(`${viewer.id} sees it redacted`, () => isRedacted(viewer, id))
      }
    }
  },
  {
    name: "power levels, state of both",
    run: async (stage) => {
      const { alice, bob } = stage
      const room = await sharedRoom(stage)
      await refused("a topic without the power", bob.set(room, "m.room.topic", { topic: "mine" }))
      const levels = await alice.content(room, "m.room.power_levels")
      await alice.set(room, "m.room.power_levels", { ...levels, users: { ...levels.users, [bob.id]: 50 } })
      await hasState(bob, room, "m.room.power_levels", ({ users }) => users[bob.id] === 50)
      await bob.set(room, "m.room.topic", { topic: "ours" })
      await hasState(alice, room, "m.room.topic", ({ topic }) => topic === "ours")
      await alice.set(room, "m.room.topic", { topic: "of both" })
      await hasState(bob, room, "m.room.topic", ({ topic }) => topic === "of both")
      await assertSameState(room, alice, bob)
    }
  },
  {
    name: "history from before the join",
    run: async (stage) => {
      const { alice, bob, founder } = stage
      const room = await createRoom(stage)
      const sent = Array.from({ length: 120 }, (_, i) => `message ${i}`)
      for (const text of sent) await alice.sendText(room, text)
      await bob.join(room, founder.name)
      await until("all is back-filled", async () => {
        const found = await messagesOf(bob, room)
        return JSON.stringify(found) === JSON.stringify(sent)
      })
    }
  },
  {
    name: "missing events after an outage",
    run: async (stage) => {
      const { alice, bob } = stage
      const room = await sharedRoom(stage)
      await exchangeMessages(room, alice, bob)
      const sent: Array<string> = []
      await duringPartition(
        stage,
        async () => {
          for (let i = 0; i < 30; i++) sent.push(await alice.sendText(room, `meanwhile ${i}`))
        },
        async () => {}
      )
      sent.push(await alice.sendText(room, "back again"))
      await until("the last arrives", () => bob.has(room, sent.at(-1)!))
      for (const id of sent) await until("all arrive", () => bob.has(room, id))
    }
  },
  {
    name: "conflicting state on both sides of a partition",
    run: async (stage) => {
      const { alice, bob, founder } = stage
      const room = await sharedRoom(stage)
      const carl = await stage.other.person(`carl${stage.tag}`)
      await carl.join(room, founder.name)
      const levels = await alice.content(room, "m.room.power_levels")
      await alice.set(room, "m.room.power_levels", { ...levels, users: { ...levels.users, [bob.id]: 50 } })
      await hasState(bob, room, "m.room.power_levels", ({ users }) => users[bob.id] === 50)
      await sees(alice, room, carl, "join")
      await duringPartition(
        stage,
        async () => {
          await alice.ban(room, carl)
          await alice.set(room, "m.room.topic", { topic: "of the founder" })
          await alice.set(room, "m.room.name", { name: "founder" })
        },
        async () => {
          await bob.set(room, "m.room.topic", { topic: "of the other" })
          await carl.sendText(room, "still here")
          await bob.set(room, "m.room.name", { name: "other" })
          await carl.set(room, "m.room.member", { membership: "join", displayname: "Carl" }, carl.id)
        }
      )
      await exchangeMessages(room, alice, bob)
      await exchangeMessages(room, bob, alice)
      await assertSameState(room, alice, bob)
      await sees(bob, room, carl, "ban")
    }
  },
  {
    name: "typing and receipts",
    run: async (stage) => {
      const { alice, bob } = stage
      const room = await sharedRoom(stage)
      const followers = new Map(
        await Promise.all([alice, bob].map(async (person) => [person, await followEphemeral(person, room)] as const))
      )
      const ephemeral = (viewer: Person, type: string) => followers.get(viewer)!(type)
      for (const [sender, recipient] of [
        [alice, bob],
        [bob, alice]
      ] as const) {
        const types = `rooms/${encodeURIComponent(room)}/typing/${encodeURIComponent(sender.id)}`
        await sender.call("PUT", types, { typing: true, timeout: 30_000 })
        await until(`${recipient.id} sees typing`, async () =>
          (await ephemeral(recipient, "m.typing"))?.user_ids?.includes(sender.id)
        )
        await sender.call("PUT", types, { typing: false })
        const message = await sender.sendText(room, "read this")
        await until("the message arrives", () => recipient.has(room, message))
        await recipient.call(
          "POST",
          `rooms/${encodeURIComponent(room)}/receipt/m.read/${encodeURIComponent(message)}`,
          {}
        )
        await until(`${sender.id} sees the receipt of ${recipient.id}`, async () => {
          const content = await ephemeral(sender, "m.receipt")
          return content?.[message]?.["m.read"]?.[recipient.id] !== undefined
        })
      }
    }
  },
  {
    name: "profiles and presence",
    run: async (stage) => {
      const { alice, bob } = stage
      await alice.call("PUT", `profile/${encodeURIComponent(alice.id)}/displayname`, { displayname: "Alice A." })
      const room = await sharedRoom(stage)
      await until("the profile is found", async () => {
        const { displayname } = await bob.call("GET", `profile/${encodeURIComponent(alice.id)}`)
        return displayname === "Alice A."
      })
      await alice.call("PUT", `presence/${encodeURIComponent(alice.id)}/status`, {
        presence: "online",
        status_msg: "here"
      })
      await until("presence arrives", async () => {
        const { status_msg } = await bob.call("GET", `presence/${encodeURIComponent(alice.id)}/status`)
        return status_msg === "here"
      })
      await exchangeMessages(room, alice, bob)
    }
  },
  {
    name: "server access control lists",
    run: async (stage) => {
      const { alice, bob, founder, other } = stage
      const [room, otherRoom] = [await sharedRoom(stage), await sharedRoom(stage)]
      await exchangeMessages(room, alice, bob)
      const list = { allow: ["*"], deny: [other.name.replace(/:.*/, "")] }
      const hasOneHost = [founder, other].every(({ name }) => list.deny.includes(name.replace(/:.*/, "")))
      // Ports do not count: the list would keep out the founder, too.
      if (hasOneHost && founder.kind === "greenroom")
        return refused("A list that keeps out its own server", alice.set(room, "m.room.server_acl", list))
      await alice.set(room, "m.room.server_acl", list)
      const denied = await bob.sendText(room, "from a denied server").catch(() => undefined)
      // Events of a server arrive in order.
      const later = await bob.sendText(otherRoom, "later")
      await until("a later event arrives", () => alice.has(otherRoom, later))
      if (denied !== undefined && (await alice.has(room, denied)))
        throw new Error("An event of a denied server arrived")
    }
  },
  {
    name: "room upgrade",
    run: async (stage) => {
      const { alice, bob, founder, other } = stage
      const newest = Math.min(...[founder, other].map(({ newestRoomVersion = 12 }) => newestRoomVersion))
      const room = await sharedRoom(stage, { name: "Old" })
      const { replacement_room: next } = await alice.call("POST", `rooms/${encodeURIComponent(room)}/upgrade`, {
        new_version: `${newest}`
      })
      await hasState(bob, room, "m.room.tombstone", ({ replacement_room }) => replacement_room === next)
      await bob.join(next, founder.name)
      await exchangeMessages(next, alice, bob)
      await hasState(bob, next, "m.room.name", ({ name }) => name === "Old")
    }
  }
]
