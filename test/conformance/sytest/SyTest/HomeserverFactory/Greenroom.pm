use strict;
use warnings;

require SyTest::Homeserver::Greenroom;

package SyTest::HomeserverFactory::Greenroom;
use base qw( SyTest::HomeserverFactory );

sub implementation_name { return "greenroom" }

sub create_server
{
   my $self = shift;
   return SyTest::Homeserver::Greenroom->new( @_ );
}

1;
