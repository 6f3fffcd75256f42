#!/bin/sh
# The paper's three kinds of table in small, on number paths: results.sh FOLDER. Stopped and started again, it goes on.
set -eu
out=$1
restmcts=${BIN:-.venv/bin}/restmcts
export OMP_NUM_THREADS=1
fast="--trees-in-flight 1100 --max-batch-tokens 65536"
searches=greedy,self-consistency,best-of-n,best-of-n-min,gated-best-of-n,sc-value,step-beam,tot-bfs,gated-tot-dfs
searches=$searches,mcts-star,mcts-star-parallel,gated-mcts-star,best-first

"$restmcts" compare --methods rest-mcts,rest-em --seeds 20,21,22,23,24,25 --difficulty 6-8 --workdir "$out/harder" \
    --markdown "$out/harder.md"
"$restmcts" compare --methods rest-mcts-paper,rest-em,self-rewarding,rest-best-first --seeds 3 --difficulty 3-6 \
    --set puzzles.searched=2200 --budget-tokens 110 --workdir "$out/training" --markdown "$out/training.md"
for seed in 0 1 2; do
    models="--problem-seed $seed --iterations-of $out/training:rest-mcts-paper-$seed@2"
    "$restmcts" evaluate number-paths $models $fast --budgets 40,80,160,320 --out "$out/verifiers-$seed" \
        --verifiers-from demo:2200 --methods greedy,self-consistency,orm,sc-orm,ms,sc-ms,best-of-n,sc-value
    "$restmcts" evaluate number-paths $models $fast --budgets 60,90,130,300 --out "$out/searches-$seed" --methods "$searches"
done
"$restmcts" pool "$out/verifiers-0" "$out/verifiers-1" "$out/verifiers-2" --out "$out/verifiers"
"$restmcts" pool "$out/searches-0" "$out/searches-1" "$out/searches-2" --out "$out/searches"
