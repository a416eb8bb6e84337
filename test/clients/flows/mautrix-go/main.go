// mautrix-go, the base of the mautrix bridges: two users by its client, who talk, send files by asynchronous uploads, and encrypt.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/attachment"
	"maunium.net/go/mautrix/crypto/cryptohelper"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

const (
	password = "correct horse battery staple"
	// limit is the time limit of a step.
	limit = 30 * time.Second
)

var (
	url         = flag.String("url", "", "the URL of the server")
	serverName  = flag.String("server-name", "", "the name of the server")
	roomVersion = flag.String("room-version", "", "the version of the rooms that it creates")
)

// step runs a step for a limited time, and writes its outcome.
func step(name string, run func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	outcome := map[string]any{"name": name, "ok": true}
	if err := run(ctx); err != nil {
		text := err.Error()
		outcome["ok"], outcome["error"] = false, text[:min(len(text), 300)]
	}
	line, _ := json.Marshal(outcome)
	fmt.Printf("STEP %s\n", line)
}

// fresh is a local part that no earlier run has used.
func fresh(name string) string {
	suffix := make([]byte, 6)
	_, _ = rand.Read(suffix)
	return name + "-" + hex.EncodeToString(suffix)
}

// person is a user whose client syncs.
type person struct {
	*mautrix.Client
	helper *cryptohelper.CryptoHelper
	mutex  sync.Mutex
	// Events as they were synced and, where they were encrypted, decrypted.
	seen []*event.Event
}

func register(ctx context.Context, name string) (*person, error) {
	client, err := mautrix.NewClient(*url, "", "")
	if err != nil {
		return nil, err
	}
	account, err := client.RegisterDummy(ctx, &mautrix.ReqRegister[any]{Username: name, Password: password})
	if err != nil {
		return nil, err
	}
	if want := id.NewUserID(name, *serverName); account.UserID != want {
		return nil, fmt.Errorf("the user ID is %s", account.UserID)
	}
	client.UserID, client.DeviceID, client.AccessToken = account.UserID, account.DeviceID, account.AccessToken
	client.StateStore = mautrix.NewMemoryStateStore()
	made := &person{Client: client}
	syncer := client.Syncer.(*mautrix.DefaultSyncer)
	syncer.OnEvent(client.StateStoreSyncHandler)
	syncer.OnEvent(func(_ context.Context, heard *event.Event) {
		made.mutex.Lock()
		defer made.mutex.Unlock()
		made.seen = append(made.seen, heard)
	})
	made.helper, err = cryptohelper.NewCryptoHelper(client, []byte("pickle"), crypto.NewMemoryStore(nil))
	if err != nil {
		return nil, err
	}
	if err = made.helper.Init(ctx); err != nil {
		return nil, err
	}
	client.Crypto = made.helper
	go func() { _ = client.Sync() }()
	return made, nil
}

// until waits for an event that the client has synced.
func (p *person) until(ctx context.Context, found func(*event.Event) bool) (*event.Event, error) {
	for {
		p.mutex.Lock()
		for _, heard := range p.seen {
			if found(heard) {
				p.mutex.Unlock()
				return heard, nil
			}
		}
		p.mutex.Unlock()
		select {
		case <-ctx.Done():
			return nil, errors.New("nothing found")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// message waits for a message with this ID.
func (p *person) message(ctx context.Context, eventID id.EventID) (*event.MessageEventContent, error) {
	heard, err := p.until(ctx, func(heard *event.Event) bool {
		return heard.ID == eventID && heard.Type == event.EventMessage
	})
	if err != nil {
		return nil, err
	}
	return heard.Content.AsMessage(), nil
}

func check(holds bool, format string, arguments ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf(format, arguments...)
}

// isNotYetUploaded reports whether a download failed because the upload of the file has not ended.
func isNotYetUploaded(err error) bool {
	var answer mautrix.HTTPError
	return errors.As(err, &answer) && answer.RespError != nil && answer.RespError.ErrCode == "M_NOT_YET_UPLOADED"
}

func main() {
	flag.Parse()
	var alice, bob *person
	var room, secretRoom id.RoomID
	var hello id.EventID

	step("register", func(ctx context.Context) (err error) {
		if alice, err = register(ctx, fresh("alice")); err != nil {
			return err
		}
		bob, err = register(ctx, fresh("bob"))
		return err
	})
	if alice == nil || bob == nil {
		os.Exit(1)
	}

	step("versions", func(ctx context.Context) error {
		found, err := alice.Versions(ctx)
		if err != nil {
			return err
		}
		return check(found.ContainsGreaterOrEqual(mautrix.SpecV14) && found.Supports(mautrix.FeatureAsyncUploads),
			"the versions are %v", found.Versions)
	})

	step("login", func(ctx context.Context) error {
		again, err := mautrix.NewClient(*url, "", "")
		if err != nil {
			return err
		}
		_, err = again.Login(ctx, &mautrix.ReqLogin{
			Type:             mautrix.AuthTypePassword,
			Identifier:       mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: string(alice.UserID)},
			Password:         password,
			StoreCredentials: true,
		})
		if err != nil {
			return err
		}
		who, err := again.Whoami(ctx)
		if err != nil {
			return err
		}
		if err = check(who.UserID == alice.UserID && who.DeviceID != alice.DeviceID, "whoami says %v", who); err != nil {
			return err
		}
		_, err = again.Logout(ctx)
		return err
	})

	step("room", func(ctx context.Context) error {
		made, err := alice.CreateRoom(ctx, &mautrix.ReqCreateRoom{
			Name: "Bridge", Topic: "to elsewhere", Preset: "private_chat", Invite: []id.UserID{bob.UserID},
		})
		if err != nil {
			return err
		}
		room = made.RoomID
		created, err := alice.FullStateEvent(ctx, room, event.StateCreate, "")
		if err != nil {
			return err
		}
		if version := string(created.Content.AsCreate().RoomVersion); version != *roomVersion {
			return fmt.Errorf("the room is of version %s", version)
		}
		_, err = bob.until(ctx, func(heard *event.Event) bool {
			return heard.RoomID == room && heard.Type == event.StateMember && heard.GetStateKey() == string(bob.UserID)
		})
		if err != nil {
			return err
		}
		if _, err = bob.JoinRoomByID(ctx, room); err != nil {
			return err
		}
		members, err := alice.JoinedMembers(ctx, room)
		if err != nil {
			return err
		}
		return check(len(members.Joined) == 2, "there are %d members", len(members.Joined))
	})

	step("send", func(ctx context.Context) error {
		sent, err := alice.SendText(ctx, room, "hello bob")
		if err != nil {
			return err
		}
		hello = sent.EventID
		heard, err := bob.message(ctx, hello)
		if err != nil {
			return err
		}
		return check(heard.Body == "hello bob", "the text is %s", heard.Body)
	})

	step("repeated transaction", func(ctx context.Context) error {
		content := &event.MessageEventContent{MsgType: event.MsgText, Body: "once"}
		extra := mautrix.ReqSendEvent{TransactionID: fresh("txn")}
		first, err := alice.SendMessageEvent(ctx, room, event.EventMessage, content, extra)
		if err != nil {
			return err
		}
		second, err := alice.SendMessageEvent(ctx, room, event.EventMessage, content, extra)
		if err != nil {
			return err
		}
		return check(first.EventID == second.EventID, "it was sent twice")
	})

	step("reaction, relations, redaction", func(ctx context.Context) error {
		reaction, err := bob.SendReaction(ctx, room, hello, "👍")
		if err != nil {
			return err
		}
		found, err := alice.GetRelations(ctx, room, hello, &mautrix.ReqGetRelations{RelationType: event.RelAnnotation})
		if err != nil {
			return err
		}
		if err = check(len(found.Chunk) == 1, "there are %d relations", len(found.Chunk)); err != nil {
			return err
		}
		redaction, err := bob.RedactEvent(ctx, room, reaction.EventID)
		if err != nil {
			return err
		}
		_, err = alice.until(ctx, func(heard *event.Event) bool {
			return heard.Type == event.EventRedaction && heard.ID == redaction.EventID
		})
		return err
	})

	step("history, receipts, typing", func(ctx context.Context) error {
		page, err := bob.Messages(ctx, room, "", "", mautrix.DirectionBackward, nil, 50)
		if err != nil {
			return err
		}
		if err = check(len(page.Chunk) > 5, "there are %d events", len(page.Chunk)); err != nil {
			return err
		}
		around, err := bob.Context(ctx, room, hello, nil, 4)
		if err != nil {
			return err
		}
		if err = check(around.Event.ID == hello, "the event is %s", around.Event.ID); err != nil {
			return err
		}
		if err = bob.MarkRead(ctx, room, hello); err != nil {
			return err
		}
		if _, err = bob.UserTyping(ctx, room, true, 5*time.Second); err != nil {
			return err
		}
		_, err = alice.until(ctx, func(heard *event.Event) bool { return heard.Type == event.EphemeralEventReceipt })
		if err != nil {
			return err
		}
		_, err = alice.until(ctx, func(heard *event.Event) bool { return heard.Type == event.EphemeralEventTyping })
		return err
	})

	step("account data and profile", func(ctx context.Context) error {
		if err := alice.SetAccountData(ctx, "org.example.bridge", map[string]any{"on": true}); err != nil {
			return err
		}
		var found map[string]any
		if err := alice.GetAccountData(ctx, "org.example.bridge", &found); err != nil {
			return err
		}
		if err := check(found["on"] == true, "the account data is %v", found); err != nil {
			return err
		}
		if err := alice.SetDisplayName(ctx, "Alice"); err != nil {
			return err
		}
		profile, err := bob.GetProfile(ctx, alice.UserID)
		if err != nil {
			return err
		}
		return check(profile.DisplayName == "Alice", "the profile is %v", profile)
	})

	file := bytes.Repeat([]byte("a file of a bridge "), 5_000)

	step("upload that follows its content URI", func(ctx context.Context) error {
		made, err := alice.UploadAsync(ctx, mautrix.ReqUploadMedia{ContentBytes: file, ContentType: "text/plain"})
		if err != nil {
			return err
		}
		for {
			got, err := bob.DownloadBytes(ctx, made.ContentURI)
			if err == nil {
				return check(bytes.Equal(got, file), "the file is another")
			}
			if !isNotYetUploaded(err) {
				return err
			}
		}
	})

	step("encrypted room", func(ctx context.Context) error {
		made, err := alice.CreateRoom(ctx, &mautrix.ReqCreateRoom{
			Preset: "private_chat", Invite: []id.UserID{bob.UserID},
			InitialState: []*event.Event{{
				Type:    event.StateEncryption,
				Content: event.Content{Parsed: &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1}},
			}},
		})
		if err != nil {
			return err
		}
		secretRoom = made.RoomID
		_, err = bob.until(ctx, func(heard *event.Event) bool {
			return heard.RoomID == secretRoom && heard.Type == event.StateMember && heard.GetStateKey() == string(bob.UserID)
		})
		if err != nil {
			return err
		}
		if _, err = bob.JoinRoomByID(ctx, secretRoom); err != nil {
			return err
		}
		for _, each := range []*person{alice, bob} {
			_, err = each.until(ctx, func(heard *event.Event) bool {
				return heard.RoomID == secretRoom && heard.Type == event.StateMember &&
					heard.GetStateKey() == string(bob.UserID) && heard.Content.AsMember().Membership == event.MembershipJoin
			})
			if err != nil {
				return err
			}
			_, err = each.until(ctx, func(heard *event.Event) bool {
				return heard.RoomID == secretRoom && heard.Type == event.StateEncryption
			})
			if err != nil {
				return err
			}
		}
		return nil
	})

	step("encrypted messages", func(ctx context.Context) error {
		for _, turn := range []struct{ from, to *person }{{alice, bob}, {bob, alice}, {alice, bob}} {
			sent, err := turn.from.SendText(ctx, secretRoom, "a secret")
			if err != nil {
				return err
			}
			stored, err := turn.to.GetEvent(ctx, secretRoom, sent.EventID)
			if err != nil {
				return err
			}
			if err = check(stored.Type == event.EventEncrypted, "it was sent as %s", stored.Type.Type); err != nil {
				return err
			}
			heard, err := turn.to.message(ctx, sent.EventID)
			if err != nil {
				return err
			}
			if err = check(heard.Body == "a secret", "the text is %s", heard.Body); err != nil {
				return err
			}
		}
		return nil
	})

	step("encrypted attachment", func(ctx context.Context) error {
		encrypted := attachment.NewEncryptedFile()
		uploaded, err := alice.UploadBytes(ctx, encrypted.Encrypt(file), "application/octet-stream")
		if err != nil {
			return err
		}
		sent, err := alice.SendMessageEvent(ctx, secretRoom, event.EventMessage, &event.MessageEventContent{
			MsgType: event.MsgFile, Body: "file.txt",
			File: &event.EncryptedFileInfo{EncryptedFile: *encrypted, URL: uploaded.ContentURI.CUString()},
		})
		if err != nil {
			return err
		}
		heard, err := bob.message(ctx, sent.EventID)
		if err != nil {
			return err
		}
		at, err := heard.File.URL.Parse()
		if err != nil {
			return err
		}
		got, err := bob.DownloadBytes(ctx, at)
		if err != nil {
			return err
		}
		if err = heard.File.DecryptInPlace(got); err != nil {
			return err
		}
		return check(bytes.Equal(got, file), "the file is another")
	})

	step("request of a key from another device", func(ctx context.Context) error {
		// A cancellation, which the other client does not answer.
		_, err := alice.SendToDevice(ctx, event.ToDeviceRoomKeyRequest, &mautrix.ReqSendToDevice{
			Messages: map[id.UserID]map[id.DeviceID]*event.Content{bob.UserID: {bob.DeviceID: {
				Parsed: &event.RoomKeyRequestEventContent{
					Action: event.KeyRequestActionCancel, RequestingDeviceID: alice.DeviceID, RequestID: "1",
				},
			}}},
		})
		if err != nil {
			return err
		}
		_, err = bob.until(ctx, func(heard *event.Event) bool { return heard.Type == event.ToDeviceRoomKeyRequest })
		return err
	})

	step("leave and logout", func(ctx context.Context) error {
		if _, err := bob.LeaveRoom(ctx, room); err != nil {
			return err
		}
		_, err := alice.until(ctx, func(heard *event.Event) bool {
			return heard.RoomID == room && heard.Type == event.StateMember &&
				heard.GetStateKey() == string(bob.UserID) && heard.Content.AsMember().Membership == event.MembershipLeave
		})
		if err != nil {
			return err
		}
		bob.StopSync()
		if _, err = bob.Logout(ctx); err != nil {
			return err
		}
		_, err = bob.Whoami(ctx)
		return check(errors.Is(err, mautrix.MUnknownToken), "whoami says %v", err)
	})
}
