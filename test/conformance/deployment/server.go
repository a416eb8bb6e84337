package deployment

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/matrix-org/complement/client"
)

// server is a Greenroom as an operator runs it: a process of its own with the PostgreSQL that comes with it. Its ports stay the same
// when it is stopped and started.
type server struct {
	name       string
	directory  string
	settings   []string
	clientPort int
	serverPort int

	mutex   sync.Mutex
	process *exec.Cmd
	ended   chan struct{}
	// The access tokens of the application services' users, by user ID.
	appServiceTokens map[string]string
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// newServer reserves the ports and the directory of a server that is not started yet.
func newServer(name string) (*server, error) {
	directory, err := os.MkdirTemp(os.Getenv("CONFORMANCE_DIRECTORY"), "complement-"+name+"-")
	if err != nil {
		return nil, err
	}
	// PostgreSQL does not run as root and must be able to walk through it.
	if err := os.Chmod(directory, 0o711); err != nil {
		return nil, err
	}
	clientPort, err := freePort()
	if err != nil {
		return nil, err
	}
	serverPort, err := freePort()
	if err != nil {
		return nil, err
	}
	return &server{
		name: name, directory: directory, clientPort: clientPort, serverPort: serverPort,
		appServiceTokens: map[string]string{},
	}, nil
}

func (s *server) url() string {
	return fmt.Sprintf("http://127.0.0.1:%d", s.clientPort)
}

func (s *server) federationHost() string {
	return fmt.Sprintf("127.0.0.1:%d", s.serverPort)
}

// environment holds the settings that the tests need: no limits of rate, the shared secret that they know, and a DNS server that
// nobody runs, so that no name of a test is ever asked of a real one.
func (s *server) environment(peers []*server) []string {
	places := make([]string, len(peers))
	for i, peer := range peers {
		places[i] = peer.name + "=" + peer.federationHost()
	}
	environment := append([]string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + os.Getenv("HOME"),
		"GREENROOM_FEDERATION_SERVERS=" + strings.Join(places, ","),
		"GREENROOM_FEDERATION_DNS_SERVERS=127.0.0.1:9",
		// As with the server for which the tests were written: several set the power levels of the creator.
		"GREENROOM_DEFAULT_ROOM_VERSION=11",
		"GREENROOM_REGISTRATION_SHARED_SECRET=" + client.SharedSecret,
		// The pages of the tests are on this machine.
		"GREENROOM_MEDIA_PREVIEW_PRIVATE_ADDRESSES=true",
		// The sender of notices that the tests expect.
		"GREENROOM_SERVER_NOTICES_LOCALPART=_server",
	}, s.settings...)
	for _, rate := range []string{"REGISTRATIONS", "LOGINS", "SENDS", "REQUESTS", "ANONYMOUS"} {
		environment = append(environment, "GREENROOM_RATE_LIMITS_"+rate+"=off")
	}
	return environment
}

// start runs the program and waits until it serves.
func (s *server) start(peers []*server, within time.Duration) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.process != nil {
		return nil
	}
	log, err := os.OpenFile(filepath.Join(s.directory, "output.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	program, environment := os.Getenv("CONFORMANCE_PROGRAM"), s.environment(peers)
	if nodes := os.Getenv("CONFORMANCE_NODES"); s == peers[0] && nodes != "1" {
		program = os.Getenv("CONFORMANCE_NODES_PROGRAM")
		environment = append(environment, "GREENROOM_TEST_NODES="+nodes)
	}
	process := exec.Command(os.Getenv("CONFORMANCE_NODE"), program,
		"--server-name", s.name,
		"--port", fmt.Sprint(s.clientPort),
		"--federation-port", fmt.Sprint(s.serverPort),
		"--no-federation-verify",
		"--data-dir", filepath.Join(s.directory, "data"),
	)
	process.Env = environment
	process.Stdout, process.Stderr = log, log
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := process.Start(); err != nil {
		return err
	}
	s.process, s.ended = process, make(chan struct{})
	go func(ended chan struct{}) {
		process.Wait()
		close(ended)
	}(s.ended)
	for deadline := time.Now().Add(within); time.Now().Before(deadline); {
		if response, err := http.Get(s.url() + "/health"); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.ended:
			output, _ := os.ReadFile(log.Name())
			return fmt.Errorf("%s ended: %s", s.name, output)
		case <-time.After(100 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s does not serve after %s, see %s", s.name, within, log.Name())
}

// stop ends the program as an operator does.
func (s *server) stop() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.process == nil {
		return
	}
	s.process.Process.Signal(syscall.SIGCONT)
	s.process.Process.Signal(syscall.SIGTERM)
	<-s.ended
	s.process = nil
}

func (s *server) signal(signal syscall.Signal) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.process == nil {
		return fmt.Errorf("%s does not run", s.name)
	}
	return s.process.Process.Signal(signal)
}

// remove ends the program and removes what it wrote, unless the logs are to be kept.
func (s *server) remove() {
	s.stop()
	if os.Getenv("CONFORMANCE_KEEP") == "" {
		os.RemoveAll(s.directory)
	}
}
