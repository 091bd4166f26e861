import subprocess,sys,os,time,socket,re,glob
b=sys.argv[1]
load='target/release/ringgate-load'
def port():
    s=socket.socket(); s.bind(('127.0.0.1',0)); p=s.getsockname()[1]; s.close(); return p
lp,up,ap=port(),port(),port()
t=open('ringgate.toml').read()
for o,n in zip(('38112','38113','38111'),(ap,lp,up)): t=t.replace(o,str(n))
open('/tmp/ops.toml','w').write(t)
u=subprocess.Popen([load,'upstream','--listen',f'127.0.0.1:{up}'],stdout=subprocess.DEVNULL,stderr=subprocess.DEVNULL)
cmd=[b,'run','-c','/tmp/ops.toml'] if 'relay' not in b else [b,f'127.0.0.1:{lp}',f'127.0.0.1:{up}']
g=subprocess.Popen(cmd,stdout=subprocess.DEVNULL,stderr=subprocess.DEVNULL)
for _ in range(100):
    try: socket.create_connection(('127.0.0.1',lp)).close(); break
    except OSError: time.sleep(.05)
def sq():
    return sum(int(re.search(r'SqTail:\s*(\d+)',open(f).read())[1]) for f in glob.glob(f'/proc/{g.pid}/fdinfo/*') if 'SqTail' in open(f).read())
def cpu():
    return sum(int(open(f'/proc/{g.pid}/task/{t}/schedstat').read().split()[0]) for t in os.listdir(f'/proc/{g.pid}/task'))
open('/tmp/64k','wb').write(b'x'*65536)
for name,extra,path,n in (('128',[], '/bytes/128',3000),('16k',[],'/bytes/16384',3000),('1m',[],'/bytes/1048576',300),('post64k',['-b','@/tmp/64k'],'/bytes/128',2000),('close',['--no-keepalive'],'/bytes/128',2000)):
    c=['-c','16','-t','1']
    r=subprocess.run([load,*c,'-n','200',*extra,f'http://127.0.0.1:{lp}{path}'],capture_output=True,text=True)
    if r.returncode: print(r.stderr[:300])
    a,x=sq(),cpu()
    subprocess.run([load,*c,'-n',str(n),*extra,f'http://127.0.0.1:{lp}{path}'],capture_output=True)
    print(name,'ops',(sq()-a)/n,'us',(cpu()-x)/n/1000)
g.kill();u.kill()
