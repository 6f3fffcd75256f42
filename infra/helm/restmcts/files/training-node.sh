# One of the machines that train together: the first takes jobs. Asked to end, it ends its work and fails: a machine that
# succeeded would not be started again.
if [ "$JOB_COMPLETION_INDEX" = 0 ]; then
  celery -A restmcts_trainer.app worker --pool=solo --loglevel=INFO --without-gossip --without-mingle &
else
  python -m restmcts_trainer.further_machine &
fi
trap "kill -TERM $!" TERM
wait $!
wait $!
exit 1
