import { assert, describe, it } from "@effect/vitest"
import * as Identifiers from "@greenroom/protocol/Identifiers"
import { Result, Schema } from "effect"
import fc from "fast-check"

const kinds = [
  ["user ID", "@", Identifiers.UserId, Identifiers.isUserId, Identifiers.formatUserId],
  ["room ID", "!", Identifiers.RoomId, Identifiers.isRoomId, Identifiers.formatRoomId],
  ["room alias", "#", Identifiers.RoomAlias, Identifiers.isRoomAlias, Identifiers.formatRoomAlias],
  ["event ID", "$", Identifiers.EventId, Identifiers.isEventId, Identifiers.formatEventId]
] as const

const utf8 = new TextEncoder()

/** Localparts of any Unicode except colons and control characters, short enough for `:example.org` and a sigil. */
const localpart = fc
  .string({ unit: "binary", minLength: 1, maxLength: 255 })
  .map((text) => text.toWellFormed().replaceAll(/[:\p{Cc}\u2028\u2029]/gu, "."))
  .filter((text) => utf8.encode(text).length <= 255 - 13)

const serverName = fc.constantFrom(
  "example.org",
  "localhost:8448",
  "a",
  "1.2.3.4",
  "[::1]:80",
  "[2001:db8::1]",
  "x-y.z"
)

for (const [name, sigil, schema, is, format] of kinds) {
  describe(`a ${name}`, () => {
    it(`a ${name} has a sigil, a localpart in any language and a server name`, () => {
      fc.assert(
        fc.property(localpart, (local) => {
          const id = format(local, "example.org" as Identifiers.ServerName)
          assert.strictEqual(id, `${sigil}${local}:example.org` as never)
          assert.isTrue(is(id))
          assert.strictEqual(Identifiers.localpartOf(id), local)
          const serverOf = sigil === "@" || sigil === "#" ? Identifiers.serverNameOf : Identifiers.serverPartOf
          assert.strictEqual(serverOf(id as never), "example.org" as never)
        })
      )
    })

    it(`a ${name} may have any server name`, () => {
      fc.assert(
        fc.property(serverName, (server) => {
          assert.isTrue(is(`${sigil}local:${server}`))
        })
      )
    })

    it(`a ${name} has at most 255 bytes of UTF-8`, () => {
      const bytes = (text: string) => `${sigil}${text}:example.org`
      assert.isTrue(is(bytes("a".repeat(255 - 13))))
      assert.isFalse(is(bytes("a".repeat(255 - 12))))
      assert.isTrue(is(bytes("ü".repeat(121))))
      assert.isFalse(is(bytes("ü".repeat(122))))
      assert.isTrue(is(bytes("🐟".repeat(60))))
      assert.isFalse(is(bytes("🐟".repeat(61))))
    })

    it("an identifier has its sigil, all parts, and well-formed Unicode", () => {
      const others = ["@", "!", "#", "$", ""].filter((other) => other !== sigil)
      for (const other of others) assert.isFalse(is(`${other}local:example.org`))
      for (const text of [
        "",
        sigil,
        `${sigil}:example.org`,
        `${sigil}local:`,
        `${sigil}a\0b:example.org`,
        `${sigil}a\nb:example.org`,
        `${sigil}a\u007fb:example.org`,
        `${sigil}a\u0085b:example.org`,
        `${sigil}a\u2028b:example.org`
      ]) {
        assert.isFalse(is(text), JSON.stringify(text))
      }
      assert.isFalse(is(`${sigil}\ud800:example.org`))
      assert.isFalse(is(` ${sigil}local:example.org`))
      assert.isFalse(is(`${sigil}local:example.org\n`))
      assert.isFalse(is(7))
    })

    it(`the error of a malformed ${name} has the expected form`, () => {
      const result = Schema.decodeUnknownResult(schema as Schema.Codec<string>)("nonsense")
      assert.match(Result.isFailure(result) ? String(result.failure) : "", new RegExp(`Expected an? ${name}, such as `))
    })
  })
}

describe("an identifier that is a hash", () => {
  const hash = "31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM"

  it("hashes identify events from room version 3 and rooms from version 12", () => {
    for (const id of [`$${hash}`, "$acR1l0raoZnm60CBwAVgqbZqoO/mYU81xysh1u7XcJk"]) {
      assert.isTrue(Identifiers.isEventId(id))
      assert.isUndefined(Identifiers.serverPartOf(id as Identifiers.EventId))
      assert.strictEqual(Schema.decodeUnknownSync(Identifiers.EventId)(id), id as never)
    }
    assert.isTrue(Identifiers.isRoomId(`!${hash}`))
    assert.isUndefined(Identifiers.serverPartOf(`!${hash}` as Identifiers.RoomId))
  })

  it("hashes identify neither users nor aliases", () => {
    assert.isFalse(Identifiers.isUserId(`@${hash}`))
    assert.isFalse(Identifiers.isRoomAlias(`#${hash}`))
  })

  it("a hash is unpadded base64", () => {
    for (const id of ["$", "$a b", "$a\n", "$a=", "$ü", "$a.b", `$${"a".repeat(255)}`]) {
      assert.isFalse(Identifiers.isEventId(id), JSON.stringify(id))
    }
  })
})

describe("a user ID in a room of the versions 1 to 12", () => {
  it("a user ID in a room of the versions 1 to 12 may have an empty localpart, or one with control characters", () => {
    for (const id of [
      "@:example.org",
      "@a\nb:example.org",
      "@ü x:example.org",
      "@alice:example.org",
      "@a:-b.",
      "@a:b:99999"
    ]) {
      assert.isTrue(Identifiers.isHistoricalUserId(id), JSON.stringify(id))
    }
    for (const id of [
      "@a\0b:example.org",
      "@a:b c",
      "@a:",
      "@a",
      "alice:example.org",
      "@a\ud800:b",
      `@${"a".repeat(255)}:b`,
      1
    ]) {
      assert.isFalse(Identifiers.isHistoricalUserId(id), JSON.stringify(id))
    }
  })
})

describe("a user ID outside of events", () => {
  it("a user ID that clients see outside of events has a localpart of printable ASCII", () => {
    for (const id of ["@alice:example.org", "@A!~:example.org"]) assert.isTrue(Identifiers.isCompliantUserId(id), id)
    for (const id of ["@:example.org", "@a b:example.org", "@ü:example.org", "@a\u007f:example.org", "@a", 1]) {
      assert.isFalse(Identifiers.isCompliantUserId(id), JSON.stringify(id))
    }
  })
})

describe("a server name", () => {
  it("a server name is a host, an IPv4 address or a bracketed IPv6 address, with an optional port", () => {
    for (const name of ["example.org", "EXAMPLE.org", "localhost:8448", "a:65535", "10.0.0.1:80", "[::1]", "[::1]:1"]) {
      assert.isTrue(Identifiers.isServerName(name), name)
    }
    for (const name of [
      "",
      ":80",
      "a:65536",
      "a:",
      "a:b",
      "-a.org",
      "a-",
      "a b",
      "a/b",
      "a@b",
      "::1",
      "[::1",
      "ü.org",
      "a:1:2"
    ]) {
      assert.isFalse(Identifiers.isServerName(name), name)
    }
    assert.isTrue(Identifiers.isServerName("a".repeat(255)))
    assert.isFalse(Identifiers.isServerName("a".repeat(256)))
  })
})

describe("a localpart that we allocate", () => {
  it("a localpart that we allocate is lower-case, so that no two user IDs differ by case only", () => {
    for (const local of ["alice", "a.b_c=d/e-f+g", "0"]) assert.match(local, Identifiers.localpartGrammar)
    for (const local of ["Alice", "a b", "ä", "a:b", "", "@a"]) assert.notMatch(local, Identifiers.localpartGrammar)
  })
})
