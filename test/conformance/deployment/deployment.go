// Package deployment lets Complement, the public conformance suite of Matrix, start Greenroom as processes on loopback, without
// Docker. test/conformance/main.ts copies it into a copy of Complement.
//
// The servers of a test package are shared by its tests, as with Complement's own COMPLEMENT_ENABLE_DIRTY_RUNS.
package deployment

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/matrix-org/complement/b"
	"github.com/matrix-org/complement/client"
	"github.com/matrix-org/complement/config"
	"github.com/matrix-org/complement/ct"
	"github.com/matrix-org/complement/helpers"
	"github.com/matrix-org/gomatrixserverlib/spec"
)

const defaultPassword = "complement_meets_min_password_req"

// Deployment is a set of home servers `hs1`, `hs2`, ... that reach one another.
type Deployment struct {
	config *config.Complement
	shared bool

	mutex   sync.Mutex
	servers []*server
	people  atomic.Int64
}

var (
	shared      *Deployment
	sharedMutex sync.Mutex
)

// Shared gives the servers that all tests of the package use. Those that a test has stopped run again.
func Shared(t ct.TestLike, count int, config *config.Complement) *Deployment {
	t.Helper()
	sharedMutex.Lock()
	defer sharedMutex.Unlock()
	if shared == nil {
		shared = reserve(t, config, max(count, 3))
		shared.shared = true
	}
	shared.start(t, count)
	return shared
}

// Cleanup ends the shared servers.
func Cleanup(*config.Complement) {
	sharedMutex.Lock()
	defer sharedMutex.Unlock()
	if shared != nil {
		shared.remove()
	}
}

// FromBlueprint gives servers of their own, with the application services of the blueprint.
func FromBlueprint(t ct.TestLike, blueprint b.Blueprint, config *config.Complement) *Deployment {
	t.Helper()
	d := reserve(t, config, len(blueprint.Homeservers))
	for i, homeserver := range blueprint.Homeservers {
		if err := d.servers[i].addAppServices(homeserver.ApplicationServices); err != nil {
			ct.Fatalf(t, "FromBlueprint: %s", err)
		}
	}
	d.start(t, len(d.servers))
	return d
}

func reserve(t ct.TestLike, config *config.Complement, count int) *Deployment {
	d := &Deployment{config: config}
	for i := range count {
		s, err := newServer(fmt.Sprintf("hs%d", i+1))
		if err != nil {
			ct.Fatalf(t, "reserve: %s", err)
		}
		d.servers = append(d.servers, s)
	}
	return d
}

func (d *Deployment) start(t ct.TestLike, count int) {
	t.Helper()
	if count > len(d.servers) {
		ct.Fatalf(t, "Deploy: %d servers are not to be had, only %d", count, len(d.servers))
	}
	failures := make(chan error)
	for _, s := range d.servers[:count] {
		go func() { failures <- s.start(d.servers, d.config.SpawnHSTimeout) }()
	}
	for range count {
		if err := <-failures; err != nil {
			ct.Fatalf(t, "Deploy: %s", err)
		}
	}
}

func (d *Deployment) remove() {
	var all sync.WaitGroup
	for _, s := range d.servers {
		all.Go(s.remove)
	}
	all.Wait()
}

func (s *server) addAppServices(services []b.ApplicationService) error {
	files := make([]string, len(services))
	for i, service := range services {
		files[i] = filepath.Join(s.directory, service.ID+".yaml")
		registration := fmt.Sprintf(
			"id: %s\nhs_token: %q\nas_token: %q\nurl: %q\nsender_localpart: %s\nrate_limited: %v\n"+
				"namespaces:\n  users: [{exclusive: false, regex: \".*\"}]\n  rooms: []\n  aliases: []\n",
			service.ID, service.HSToken, service.ASToken, strings.Replace(service.URL, "localhost", "127.0.0.1", 1),
			service.SenderLocalpart, service.RateLimited,
		)
		if err := os.WriteFile(files[i], []byte(registration), 0o644); err != nil {
			return err
		}
		s.appServiceTokens["@"+service.SenderLocalpart+":"+s.name] = service.ASToken
	}
	if len(files) > 0 {
		s.settings = append(s.settings, "GREENROOM_APP_SERVICE_FILES="+strings.Join(files, ","))
	}
	return nil
}

func (d *Deployment) server(t ct.TestLike, name string) *server {
	t.Helper()
	for _, s := range d.servers {
		if s.name == name {
			return s
		}
	}
	ct.Fatalf(t, "There is no home server %q in this deployment", name)
	return nil
}

func (d *Deployment) client(t ct.TestLike, name string, password string) *client.CSAPI {
	t.Helper()
	s := d.server(t, name)
	return client.NewCSAPI(client.CSAPIOpts{
		BaseURL: s.url(),
		Client: client.NewLoggedClient(t, name, &http.Client{
			Timeout:   30 * time.Second,
			Transport: publicTransport{s},
		}),
		SyncUntilTimeout: 5 * time.Second,
		Debug:            d.config.DebugLoggingEnabled,
		Password:         password,
	})
}

func (d *Deployment) GetFullyQualifiedHomeserverName(t ct.TestLike, hsName string) spec.ServerName {
	t.Helper()
	return spec.ServerName(d.server(t, hsName).name)
}

func (d *Deployment) UnauthenticatedClient(t ct.TestLike, hsName string) *client.CSAPI {
	t.Helper()
	return d.client(t, hsName, "")
}

func (d *Deployment) Register(t ct.TestLike, hsName string, opts helpers.RegistrationOpts) *client.CSAPI {
	t.Helper()
	password := opts.Password
	if password == "" {
		password = defaultPassword
	}
	c := d.client(t, hsName, password)
	localpart := fmt.Sprintf("user-%d", d.people.Add(1))
	if opts.LocalpartSuffix != "" {
		localpart += "-" + opts.LocalpartSuffix
	}
	if opts.IsAdmin {
		c.UserID, c.AccessToken, c.DeviceID = c.RegisterSharedSecret(t, localpart, password, true)
	} else {
		c.UserID, c.AccessToken, c.DeviceID = c.RegisterUser(t, localpart, password)
	}
	return c
}

func (d *Deployment) Login(t ct.TestLike, hsName string, existing *client.CSAPI, opts helpers.LoginOpts) *client.CSAPI {
	t.Helper()
	password := existing.Password
	if opts.Password != "" {
		password = opts.Password
	}
	localpart, _, _ := strings.Cut(strings.TrimPrefix(existing.UserID, "@"), ":")
	c := d.client(t, hsName, password)
	var more []client.LoginOpt
	if opts.DeviceID != "" {
		more = append(more, client.WithDeviceID(opts.DeviceID))
	}
	c.UserID, c.AccessToken, c.DeviceID = c.LoginUser(t, localpart, password, more...)
	return c
}

func (d *Deployment) AppServiceUser(t ct.TestLike, hsName, appServiceUserID string) *client.CSAPI {
	t.Helper()
	token, known := d.server(t, hsName).appServiceTokens[appServiceUserID]
	if !known {
		ct.Fatalf(t, "AppServiceUser: %s has no application service of %s", hsName, appServiceUserID)
	}
	c := d.client(t, hsName, "")
	c.UserID, c.AccessToken = appServiceUserID, token
	return c
}

func (d *Deployment) Restart(t ct.TestLike) error {
	t.Helper()
	for _, s := range d.servers {
		if s.process == nil {
			continue
		}
		s.stop()
		if err := s.start(d.servers, d.config.SpawnHSTimeout); err != nil {
			return err
		}
	}
	return nil
}

func (d *Deployment) StopServer(t ct.TestLike, hsName string) {
	t.Helper()
	d.server(t, hsName).stop()
}

func (d *Deployment) StartServer(t ct.TestLike, hsName string) {
	t.Helper()
	if err := d.server(t, hsName).start(d.servers, d.config.SpawnHSTimeout); err != nil {
		ct.Fatalf(t, "StartServer: %s", err)
	}
}

func (d *Deployment) PauseServer(t ct.TestLike, hsName string) {
	t.Helper()
	if err := d.server(t, hsName).signal(syscall.SIGSTOP); err != nil {
		ct.Fatalf(t, "PauseServer: %s", err)
	}
}

func (d *Deployment) UnpauseServer(t ct.TestLike, hsName string) {
	t.Helper()
	if err := d.server(t, hsName).signal(syscall.SIGCONT); err != nil {
		ct.Fatalf(t, "UnpauseServer: %s", err)
	}
}

// ContainerID is for tests that look into Docker's logs: there are no containers.
func (d *Deployment) ContainerID(t ct.TestLike, hsName string) string {
	t.Skipf("%s runs in no container", hsName)
	return ""
}

func (d *Deployment) Destroy(t ct.TestLike) {
	t.Helper()
	if !d.shared {
		d.remove()
	}
}

func (d *Deployment) GetConfig() *config.Complement {
	return d.config
}

func (d *Deployment) Network() string {
	return "loopback"
}

// publicTransport leads the paths of the server-server API to the federation port, as the reverse proxy of a public server does.
type publicTransport struct {
	server *server
}

func (p publicTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	path := request.URL.Path
	if !strings.HasPrefix(path, "/_matrix/federation/") && !strings.HasPrefix(path, "/_matrix/key/") {
		return http.DefaultTransport.RoundTrip(request)
	}
	return throughFederationPort(request, p.server.federationHost(), p.server.name)
}

func throughFederationPort(request *http.Request, host, name string) (*http.Response, error) {
	request.URL.Scheme, request.URL.Host = "https", host
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{ServerName: name, InsecureSkipVerify: true},
	}
	return transport.RoundTrip(request)
}

// RoundTripper maps https://hs1 to the federation port of hs1.
func (d *Deployment) RoundTripper() http.RoundTripper {
	return roundTripper{d}
}

type roundTripper struct {
	deployment *Deployment
}

func (r roundTripper) RoundTrip(request *http.Request) (*http.Response, error) {
	place := url.URL{Scheme: "https", Host: request.URL.Host}
	name := place.Hostname()
	for _, s := range r.deployment.servers {
		if s.name == name {
			place.Host = s.federationHost()
		}
	}
	if place.Host == request.URL.Host && name != r.deployment.config.HostnameRunningComplement {
		return nil, fmt.Errorf("there is no home server %q in this deployment", name)
	}
	return throughFederationPort(request, place.Host, name)
}
