# Asks spamgate about the raw message. Without an answer in time the rule does not hit.
package Mail::SpamAssassin::Plugin::Spamgate;

use strict;
use warnings;
use HTTP::Tiny;
use JSON::PP ();
use Mail::SpamAssassin::Logger;
use Mail::SpamAssassin::Plugin;

our @ISA = ('Mail::SpamAssassin::Plugin');

sub new {
    my ($class, $main) = @_;
    my $self = $class->SUPER::new($main);
    bless $self, $class;
    $main->{conf}->{parser}->register_commands([
        { setting => 'spamgate_url', is_admin => 1,
          default => 'http://127.0.0.1:8000/classify/message',
          type => $Mail::SpamAssassin::Conf::CONF_TYPE_STRING },
        { setting => 'spamgate_key', is_admin => 1, default => '',
          type => $Mail::SpamAssassin::Conf::CONF_TYPE_STRING },
        { setting => 'spamgate_timeout', is_admin => 1, default => 4,
          type => $Mail::SpamAssassin::Conf::CONF_TYPE_NUMERIC },
    ]);
    $self->register_eval_rule('check_spamgate', $Mail::SpamAssassin::Conf::TYPE_FULL_EVALS);
    return $self;
}

# Also of a message whose scan ends before the question.
sub parsed_metadata {
    my ($self, $opts) = @_;
    $opts->{permsgstatus}->set_tag('SPAMGATE', 'no answer');
}

# Hits where the score lies in [from, to): rules for spam and for ham share one question.
sub check_spamgate {
    my ($self, $pms, $full, $from, $to) = @_;
    my $result = $pms->{spamgate_result} //= $self->ask($pms);
    my $found = $result->{probabilities};
    my $spam = ref $found eq 'HASH' ? $found->{spam} : undef;
    return 0 unless defined $spam;
    $pms->set_tag('SPAMGATE', sprintf('%s %.4f', $result->{decision}, $spam));
    return $spam >= $from && $spam < $to ? 1 : 0;
}

sub ask {
    my ($self, $pms) = @_;
    my $conf = $pms->{conf};
    my %headers = ('Content-Type' => 'message/rfc822',
        'X-Timeout-Ms' => int(1000 * $conf->{spamgate_timeout}));
    $headers{'X-API-Key'} = $conf->{spamgate_key} if $conf->{spamgate_key};
    # No proxy of the environment is told what mail says.
    my %none = (proxy => undef, http_proxy => undef, https_proxy => undef);
    # No redirect is followed: it would take message and key along.
    my %bounds = (timeout => $conf->{spamgate_timeout}, max_redirect => 0);
    my $reply = HTTP::Tiny->new(%bounds, %none)->post(
        $conf->{spamgate_url}, { headers => \%headers, content => $pms->{msg}->get_pristine() });
    my $result = eval { JSON::PP::decode_json($reply->{content})->{results}->[0] };
    return $result if $reply->{success} && ref $result eq 'HASH';
    info("spamgate: no verdict: $reply->{status}");
    return {};
}

1;
