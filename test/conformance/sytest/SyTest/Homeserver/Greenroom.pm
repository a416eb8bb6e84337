# Starts Greenroom for Sytest: a process with an embedded PostgreSQL of its own. GREENROOM_NODE and GREENROOM_PROGRAM name the
# program. With CONFORMANCE_NODES the first home server is so many nodes, which CONFORMANCE_NODES_PROGRAM starts.
package SyTest::Homeserver::Greenroom;

use strict;
use warnings;
use base qw( SyTest::Homeserver );

use Cwd qw( getcwd );
use File::Path qw( remove_tree );
use IO::Socket::IP;
use SyTest::SSL qw( ensure_ssl_key create_ssl_cert );

sub _init
{
   my $self = shift;
   my ( $args ) = @_;

   $self->SUPER::_init( $args );
   # Both are held until both are known.
   my @free = map { IO::Socket::IP->new( LocalHost => $self->{bind_host}, LocalPort => 0, Listen => 1 ) // die "$@" } 1 .. 2;
   ( $self->{client_port}, $self->{federation_port} ) = map { $_->sockport } @free;
}

sub server_name     { my $self = shift; return "$self->{bind_host}:$self->{federation_port}" }
sub federation_host { my $self = shift; return $self->{bind_host} }
sub federation_port { my $self = shift; return $self->{federation_port} }
sub public_baseurl  { my $self = shift; return "http://$self->{bind_host}:$self->{client_port}" }

sub start
{
   my $self = shift;
   my $hs_dir = $self->{hs_dir};

   remove_tree( "$hs_dir/data" );
   my ( $cert, $key ) = ( "$hs_dir/tls.crt", "$hs_dir/tls.key" );
   ensure_ssl_key( $key );
   create_ssl_cert( $cert, $key, $self->{bind_host} );

   # Mails, application services and push gateways are on this machine, with certificates of Sytest's authority. No name is
   # asked of a real DNS server: nobody runs the one that is set here.
   my %env = (
      PATH => $ENV{PATH},
      HOME => $ENV{HOME},
      NODE_EXTRA_CA_CERTS => getcwd() . "/keys/ca.crt",
      GREENROOM_FEDERATION_PRIVATE_ADDRESSES => "true",
      GREENROOM_FEDERATION_CERTIFICATE_AUTHORITIES => getcwd() . "/keys/ca.crt",
      GREENROOM_FEDERATION_DNS_SERVERS => "127.0.0.1:9",
      GREENROOM_REGISTRATION_SHARED_SECRET => "reg_secret",
      # The identity servers of the tests have a new port each time, and certificates that nobody vouches for.
      GREENROOM_FEDERATION_VERIFY => "false",
      GREENROOM_IDENTITY_SERVERS => "*",
      # The tests were written for rooms whose creator is in the power levels.
      GREENROOM_DEFAULT_ROOM_VERSION => $ENV{GREENROOM_ROOM_VERSION} // "10",
      GREENROOM_ALLOW_GUESTS => "true",
      ( map { ( "GREENROOM_RATE_LIMITS_$_" => "off" ) } qw( REGISTRATIONS LOGINS SENDS REQUESTS ANONYMOUS ) ),
   );

   my $program = $ENV{GREENROOM_PROGRAM};
   if( $self->{hs_index} == 0 and ( $ENV{CONFORMANCE_NODES} // 1 ) > 1 ) {
      $program = $ENV{CONFORMANCE_NODES_PROGRAM};
      $env{GREENROOM_TEST_NODES} = $ENV{CONFORMANCE_NODES};
   }

   if( my $smtp = $self->{smtp_server_config} ) {
      $env{GREENROOM_MAIL_HOST} = $smtp->{host};
      $env{GREENROOM_MAIL_PORT} = $smtp->{port};
      $env{GREENROOM_MAIL_SECURITY} = "none";
      $env{GREENROOM_MAIL_FROM} = 'Greenroom <noreply@sytest.invalid>';
   }
   if( my $files = $self->{app_service_config_files} ) {
      $env{GREENROOM_APP_SERVICE_FILES} = join ",", @$files;
   }

   my $log = "$hs_dir/output.log";
   return $self->_start_process_and_await_connectable(
      setup => [ env => \%env ],
      command => [
         "sh", "-c", 'exec "$@" >"$0" 2>&1', $log,
         $ENV{GREENROOM_NODE} // "node", $program,
         "--server-name", $self->server_name,
         "--host", $self->{bind_host},
         "--port", $self->{client_port},
         "--federation-port", $self->{federation_port},
         "--tls-cert", $cert, "--tls-key", $key,
         "--public-url", $self->public_baseurl,
         "--data-dir", "$hs_dir/data",
      ],
      connect_host => $self->{bind_host},
      connect_port => $self->{client_port},
      name => "greenroom-$self->{hs_index}",
   );
}

1;
