import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { admits } from "../../src/room/ServerAcl.ts"

const admitted = (content: JsonObject | undefined, server: string): boolean =>
  admits(
    (type) => (type === "m.room.server_acl" && content !== undefined ? ({ content } as Event) : undefined),
    server as ServerName
  )

describe("m.room.server_acl", () => {
  it("a room without it admits all servers, and an empty one none", () => {
    assert.isTrue(admitted(undefined, "blue.test"))
    assert.isFalse(admitted({}, "blue.test"))
    assert.isFalse(admitted({ allow: "*" }, "blue.test"))
  })

  it("servers are named by globs without ports, in any case, and a denial comes before a permission", () => {
    const acl = { allow: ["*.test"], deny: ["evil.*", "B?d.test"] }
    for (const server of ["blue.test", "Blue.TEST", "blue.test:8448"]) assert.isTrue(admitted(acl, server), server)
    for (const server of ["blue.example", "evil.test", "EVIL.test:8448", "bad.test:1", "bed.test"]) {
      assert.isFalse(admitted(acl, server), server)
    }
  })

  it("allow_ip_literals false denies servers that are named by an address", () => {
    for (const server of ["1.2.3.4", "1.2.3.4:8448", "[::1]", "[2001:db8::1]:8448"]) {
      assert.isTrue(admitted({ allow: ["*"] }, server), server)
      assert.isTrue(admitted({ allow: ["*"], allow_ip_literals: "no" }, server), server)
      assert.isFalse(admitted({ allow: ["*"], allow_ip_literals: false }, server), server)
    }
    assert.isTrue(admitted({ allow: ["*"], allow_ip_literals: false }, "1.2.3.4.test"))
  })
})
