# SpamAssassin on messages in files, for benchmarks/filters.py: perl spamassassin.pl FOLDER 0|1
# FOLDER is where it keeps what it learns; 1 switches its Bayes filter on. Each line of standard input is "check PATH", answered
# with the score, or "ham PATH" or "spam PATH", answered with learnt, known (from before) or failed. Nothing is asked of other machines.
use strict;
use warnings;
use Mail::SpamAssassin;

my ($folder, $use_bayes) = @ARGV;
my $config = "use_bayes $use_bayes\nbayes_auto_learn 0\nbayes_path $folder/bayes\nuse_auto_whitelist 0\n";
my $assassin = Mail::SpamAssassin->new({
    local_tests_only => 1,
    dont_copy_prefs => 1,
    userstate_dir => $folder,
    userprefs_filename => "$folder/user_prefs",
    post_config_text => $config,
});
$assassin->init(1);
$assassin->init_learner({});
$| = 1;
while (my $line = <STDIN>) {
    chomp $line;
    my ($what, $path) = split / /, $line, 2;
    open(my $file, '<:raw', $path) or die "$path: $!";
    my @lines = <$file>;
    my $mail = $assassin->parse(\@lines, 1);
    my $status;
    if ($what eq 'check') {
        $status = $assassin->check($mail);
        printf "%.3f\n", $status->get_score();
    } else {
        $status = $assassin->learn($mail, undef, $what eq 'spam', 0);
        my $learnt = $status->did_learn();
        print defined $learnt ? $learnt ? "learnt\n" : "known\n" : "failed\n";
    }
    $status->finish();
    $mail->finish();
}
